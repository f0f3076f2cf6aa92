"""What does not fit is named in one line, and leaves nothing."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from dspark_local.convert import convert_target
from dspark_local.errors import ConvertError
from tests.convert import checkpoints
from tests.convert.checkpoints import HIDDEN, edit, tokenizer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def drop(folder: Path, name: str) -> None:
    tensors = load_file(folder / "model.safetensors")
    del tensors[name]
    save_file(tensors, folder / "model.safetensors")


def put(folder: Path, name: str, value: np.ndarray) -> None:
    save_file(load_file(folder / "model.safetensors") | {name: value}, folder / "model.safetensors")


def cut(folder: Path, n: int) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:n])


def swap(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").mkdir()


NORM = "model.norm.weight"
FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing tensor": (lambda f: drop(f, NORM), "lacks norm.weight"),
    "missing layer": (lambda f: edit(f, num_hidden_layers=4), "lacks layers.3"),
    "extra tensor": (lambda f: put(f, "model.extra.weight", np.ones(3, np.float32)), "extra.weight, which"),
    "extra layer": (lambda f: edit(f, num_hidden_layers=2), "layers.2"),
    "wrong shape": (lambda f: edit(f, intermediate_size=128), "has shape"),
    "NaN": (lambda f: put(f, NORM, np.full(HIDDEN, np.nan, np.float32)), "NaN"),
    "integers": (lambda f: put(f, NORM, np.ones(HIDDEN, np.int32)), "type I32"),
    "truncated": (lambda f: cut(f, -100), "cut short: 100 bytes"),
    "truncated header": (lambda f: cut(f, 50), "cut short"),
    "empty": (lambda f: cut(f, 0), "cut short"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "lacks model.safetensors"),
    "no config": (lambda f: (f / "config.json").unlink(), "no config.json"),
    "bad config": (lambda f: (f / "config.json").write_text("{"), "cannot be read"),
    "a list for a config": (lambda f: (f / "config.json").write_text("[]"), "not a JSON object"),
    "other family": (lambda f: edit(f, architectures=["MambaForCausalLM"]), "MambaForCausalLM"),
    "zero heads": (lambda f: edit(f, num_attention_heads=0), "num_attention_heads must be"),
    "negative epsilon": (lambda f: edit(f, rms_norm_eps=-1), "rms_norm_eps must be"),
    "rope scaling": (lambda f: edit(f, rope_scaling={"type": "longrope"}), "longrope"),
    "bias": (lambda f: edit(f, attention_bias=True), "attention_bias"),
    "small vocabulary": (lambda f: edit(f, vocab_size=200), r"embed_tokens.weight has shape \[300, 64\]"),
    "other activation": (lambda f: edit(f, hidden_act="gelu"), "'gelu' is not converted"),
    "twice": (lambda f: put(f, "norm.weight", np.ones(HIDDEN, np.float32)), "the same tensor twice"),
    "index without map": (lambda f: (f / "model.safetensors.index.json").write_text("{}{"), "cannot be read"),
    "odd index": (lambda f: (f / "model.safetensors.index.json").write_text('{"weight_map": [1]}'), "no weight_map"),
    "a folder for weights": (swap, "lacks"),
    "no tokenizer": (lambda f: (f / "tokenizer.json").unlink(), "no tokenizer.json"),
    "odd tokenizer": (lambda f: (f / "tokenizer.json").write_text(json.dumps(tokenizer(".*"))), "PRE_TOKENIZERS"),
    "not a tokenizer": (lambda f: (f / "tokenizer.json").write_text('{"model": 1}'), "not a tokenizer"),
    "unknown eos": (lambda f: (f / "tokenizer_config.json").write_text('{"eos_token": "</s>"}'), "not in the vocab"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_does_not_fit_is_one_line_and_leaves_nothing(tmp_path: Path, fault: str) -> None:
    """Every fault is named; no file is left that looks finished, nor a part of one."""
    breaks, says = FAULTS[fault]
    breaks(src := checkpoints.target(tmp_path / "src"))
    (tmp_path / "out").mkdir()
    with pytest.raises(ConvertError, match=says) as raised:
        convert_target(src, tmp_path / "out" / "t.gguf", type="Q8_0")
    assert "\n" not in str(raised.value)
    assert not list((tmp_path / "out").iterdir())
