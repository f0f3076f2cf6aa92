"""Checkpoints are read to the bit, or refused in a line."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from dspark_local.convert import convert_target
from dspark_local.convert.checkpoint import Checkpoint
from dspark_local.errors import ConvertError
from dspark_local.formats.gguf import GGUF
from tests.convert import checkpoints

if TYPE_CHECKING:
    from pathlib import Path


def raw(folder: Path, dtype: str, values: np.ndarray) -> Checkpoint:
    entry = {"dtype": dtype, "shape": list(values.shape), "data_offsets": [0, values.nbytes]}
    header = json.dumps({"x": entry}).encode()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + values.tobytes())
    return Checkpoint(folder)


def test_bf16_is_exact(tmp_path: Path) -> None:
    """Every finite BF16 number, signed zeros and subnormals among them, has the same upper bits as float32."""
    positive = np.arange(0x7F80, dtype=np.uint16)
    bits = np.concatenate([positive, positive | 0x8000])
    np.testing.assert_array_equal(raw(tmp_path, "BF16", bits).read("x").view(np.uint32), bits.astype(np.uint32) << 16)


def test_bf16_to_bf16_keeps_every_bit(tmp_path: Path) -> None:
    """A checkpoint in BF16 becomes a BF16 file of the same bytes."""
    src = checkpoints.target(tmp_path / "src")
    tensors = {name: t.view(np.uint32) >> 16 for name, t in load_file(src / "model.safetensors").items()}
    at, table, data = 0, {}, b""
    for name, bits in tensors.items():
        data += bits.astype("<u2").tobytes()
        table[name] = {"dtype": "BF16", "shape": list(bits.shape), "data_offsets": [at, len(data)]}
        at = len(data)
    header = json.dumps(table).encode()
    (src / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + data)
    path = convert_target(src, tmp_path / "t.gguf", type="BF16")
    stored = GGUF.open(path).tensors["blk.2.ffn_down.weight"]
    want = tensors["model.layers.2.mlp.down_proj.weight"].astype("<u2").tobytes()
    assert path.read_bytes()[stored.offset : stored.offset + stored.nbytes] == want


@pytest.mark.parametrize(
    ("dtype", "values"),
    [
        ("BF16", np.array([0x7F80], np.uint16)),
        ("BF16", np.array([0xFFC0], np.uint16)),
        ("F16", np.array([np.inf], np.float16)),
        ("F32", np.array([1, np.nan], np.float32)),
        ("F64", np.array([1e300])),
    ],
)
def test_what_is_not_finite_in_float32_is_refused(tmp_path: Path, dtype: str, values: np.ndarray) -> None:
    """In whatever type it is stored."""
    with pytest.raises(ConvertError, match="NaN or infinity"):
        raw(tmp_path, dtype, values).read("x")


def test_rows_are_those_rows(tmp_path: Path) -> None:
    """A run of rows is the same as the part of the whole."""
    values = np.arange(60, dtype=np.float32).reshape(10, 3, 2)
    np.testing.assert_array_equal(raw(tmp_path, "F32", values).read("x", slice(4, 7)), values[4:7])


def test_shards_are_one_checkpoint(tmp_path: Path) -> None:
    """Tensors in two files by an index become the same file as from one."""
    src = checkpoints.target(tmp_path / "src")
    want = convert_target(src, tmp_path / "one.gguf", type="F16").read_bytes()
    tensors = load_file(src / "model.safetensors")
    (src / "model.safetensors").unlink()
    parts: dict[str, dict[str, np.ndarray]] = {"a.safetensors": {}, "b.safetensors": {}}
    for i, (name, tensor) in enumerate(tensors.items()):
        parts["ab"[i % 2] + ".safetensors"][name] = tensor
    for part, held in parts.items():
        save_file(held, src / part)
    index = {"weight_map": {name: part for part, held in parts.items() for name in held}}
    (src / "model.safetensors.index.json").write_text(json.dumps(index))
    assert convert_target(src, tmp_path / "two.gguf", type="F16").read_bytes() == want
    (src / "b.safetensors").unlink()
    with pytest.raises(ConvertError, match=r"lacks b\.safetensors"):
        convert_target(src, tmp_path / "three.gguf", type="F16")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
ENTRY = st.fixed_dictionaries({"dtype": JSON | st.just("F32"), "shape": JSON, "data_offsets": JSON})


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(header=JSON | st.dictionaries(st.text(max_size=3), JSON | ENTRY, max_size=2))
def test_any_header_is_read_or_refused(tmp_path: Path, header: object) -> None:
    """Whatever JSON stands there, the answer is a checkpoint within the file, or a ConvertError."""
    text = json.dumps(header).encode()
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + bytes(16))
    with contextlib.suppress(ConvertError):
        read = Checkpoint(tmp_path).tensors.values()
        assert all(8 + len(text) <= t.begin <= t.end <= 24 + len(text) for t in read)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=64))
def test_any_bytes_are_read_or_refused(tmp_path: Path, data: bytes) -> None:
    """A file of anything else is refused in one line."""
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(data)
    with pytest.raises(ConvertError):
        Checkpoint(tmp_path)
