"""A converted target says what its checkpoint said."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from gguf import quants
from gguf.constants import GGMLQuantizationType
from safetensors.numpy import load_file, save_file

from dspark_local.convert import checkpoint, convert_target
from dspark_local.convert.checkpoint import Checkpoint
from dspark_local.formats.gguf import GGUF
from tests.convert import checkpoints
from tests.convert.checkpoints import VOCAB

if TYPE_CHECKING:
    from pathlib import Path

ALL = slice(None)


@pytest.mark.parametrize("tied", [True, False])
def test_every_tensor_arrives(tmp_path: Path, tied: bool) -> None:
    """In F32 each value is the checkpoint's own; the head is there only when it is not the embedding."""
    src = checkpoints.target(tmp_path / "src", tied=tied)
    out = GGUF.open(convert_target(src, tmp_path / "t.gguf", type="F32"))
    names = {
        "model.embed_tokens.weight": "token_embd.weight",
        "model.norm.weight": "output_norm.weight",
        **{f"model.{theirs}": ours for theirs, ours in checkpoints.layer_names(checkpoints.LAYERS).items()},
        **({} if tied else {"lm_head.weight": "output.weight"}),
    }
    source = load_file(src / "model.safetensors")
    assert {names[name] for name in source} == set(out.tensors)
    for theirs, want in source.items():
        assert out.tensors[names[theirs]].shape == want.shape[::-1]
        np.testing.assert_array_equal(out.rows(names[theirs], ALL).reshape(want.shape), want)


def test_every_key_arrives(tmp_path: Path) -> None:
    """The keys that llama.cpp's graph of qwen3 reads, and the tokenizer's."""
    out = GGUF.open(convert_target(checkpoints.target(tmp_path / "src"), tmp_path / "t.gguf", type="F16"))
    want = {
        "general.architecture": "qwen3",
        "general.name": "src",
        "general.file_type": 1,
        "qwen3.context_length": 512,
        "qwen3.embedding_length": checkpoints.HIDDEN,
        "qwen3.block_count": checkpoints.LAYERS,
        "qwen3.feed_forward_length": checkpoints.FFN,
        "qwen3.attention.head_count": checkpoints.HEADS,
        "qwen3.attention.head_count_kv": checkpoints.KV,
        "qwen3.attention.key_length": checkpoints.HEAD,
        "qwen3.attention.value_length": checkpoints.HEAD,
        "qwen3.attention.layer_norm_rms_epsilon": float(np.float32(1e-6)),
        "qwen3.rope.freq_base": 1e6,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "qwen2",
        "tokenizer.ggml.merges": ("t h",),
        "tokenizer.ggml.eos_token_id": 297,
        "tokenizer.ggml.padding_token_id": 298,
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.chat_template": checkpoints.TEMPLATE,
    }
    lists = {"tokenizer.ggml.tokens", "tokenizer.ggml.token_type"}  # test_vocab.py
    found = set(out.header.entries) - lists - {"general.quantization_version", "general.alignment"}
    assert {key: out.meta(key) for key in found} == want


def test_a_head_that_repeats_a_tied_embedding_is_left_out(tmp_path: Path) -> None:
    """Exports of tied models sometimes hold the matrix twice."""
    src = checkpoints.target(tmp_path / "src")
    tensors = load_file(src / "model.safetensors")
    save_file(tensors | {"lm_head.weight": tensors["model.embed_tokens.weight"]}, src / "model.safetensors")
    assert "output.weight" not in GGUF.open(convert_target(src, tmp_path / "t.gguf", type="F16")).tensors


TYPES = {  # type of the file → of matrices, of vocabulary matrices
    "F32": ("F32", "F32"),
    "F16": ("F16", "F16"),
    "BF16": ("BF16", "BF16"),
    "Q8_0": ("Q8_0", "Q8_0"),
    "Q4_0": ("Q4_0", "Q8_0"),
}


@pytest.mark.parametrize("kind", TYPES)
def test_types_follow_one_table(tmp_path: Path, kind: str) -> None:
    """Vectors stay F32; a 4-bit file keeps embedding and head at 8 bits."""
    out = GGUF.open(convert_target(checkpoints.target(tmp_path / "src", tied=False), tmp_path / "t.gguf", type=kind))
    matrix, vocabulary = TYPES[kind]
    for name, tensor in out.tensors.items():
        want = "F32" if len(tensor.shape) == 1 else vocabulary if tensor.shape[1] == VOCAB else matrix
        assert (name, tensor.type.name) == (name, want)


@pytest.mark.parametrize("kind", TYPES)
def test_a_few_rows_at_a_time_make_the_same_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """What is held at a time is bounded, and the bytes do not depend on it."""
    src = checkpoints.target(tmp_path / "src")
    whole = convert_target(src, tmp_path / "whole.gguf", type=kind).read_bytes()
    held: list[int] = []

    def read(self: Checkpoint, name: str, rows: slice = ALL, real: object = Checkpoint.raw) -> checkpoint.Floats:
        values: checkpoint.Floats = real(self, name, rows)  # type: ignore[operator]  # the method itself
        held.append(values.size)
        return values

    monkeypatch.setattr(checkpoint, "_AT_A_TIME", 1000)
    monkeypatch.setattr(Checkpoint, "raw", read)
    assert convert_target(src, tmp_path / "few.gguf", type=kind).read_bytes() == whole
    assert max(held) <= 1000


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_0"])
def test_blocks_are_the_reference_quantisers(tmp_path: Path, kind: str) -> None:
    """A quantised matrix is what gguf's own quantiser makes of the whole of it."""
    src = checkpoints.target(tmp_path / "src")
    out = GGUF.open(convert_target(src, tmp_path / "t.gguf", type=kind))
    source = load_file(src / "model.safetensors")["model.layers.1.mlp.up_proj.weight"]
    exact = GGMLQuantizationType[kind]
    want = quants.dequantize(quants.quantize(source, exact), exact)
    np.testing.assert_array_equal(out.rows("blk.1.ffn_up.weight", ALL), want)
