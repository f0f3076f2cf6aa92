"""Checkpoints become GGUF files that say the same, or a line that says why not."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
from gguf import GGUFWriter
from safetensors.numpy import load_file, save_file

import dspark_local
from dspark_local.convert import convert_draft, convert_target
from dspark_local.convert.checkpoint import Checkpoint
from dspark_local.errors import ConvertError
from dspark_local.formats.gguf import GGUF
from dspark_local.formats.inspection import inspect_files
from tests.convert import checkpoints
from tests.convert.checkpoints import HIDDEN, VOCAB, random, tokenizer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ALL = slice(None)


@pytest.mark.parametrize("tied", [True, False])
def test_every_tensor_of_a_target_arrives(tmp_path: Path, tied: bool) -> None:
    """In F32 each value is the checkpoint's own; the head is there only when it is not the embedding."""
    src = checkpoints.target(tmp_path / "src", tied=tied)
    out = GGUF.open(convert_target(src, tmp_path / "t.gguf", type="F32"))
    source = load_file(src / "model.safetensors")
    assert len(out.tensors) == len(source)
    assert ("output.weight" in out.tensors) != tied
    pairs = {
        "token_embd": "model.embed_tokens",
        "output_norm": "model.norm",
        "blk.2.attn_q": "model.layers.2.self_attn.q_proj",
        "blk.1.attn_k_norm": "model.layers.1.self_attn.k_norm",
        "blk.0.ffn_norm": "model.layers.0.post_attention_layernorm",
        "blk.2.ffn_down": "model.layers.2.mlp.down_proj",
    }
    for ours, theirs in pairs.items():
        want = source[f"{theirs}.weight"]
        np.testing.assert_array_equal(out.rows(f"{ours}.weight", ALL).reshape(want.shape), want)
    assert (out.arch, out.meta("qwen3.block_count"), out.meta("qwen3.rope.freq_base")) == ("qwen3", 3, 1e6)
    assert (out.meta("tokenizer.ggml.pre"), out.meta("tokenizer.ggml.eos_token_id")) == ("qwen2", 297)


@pytest.mark.parametrize("kind", ["F16", "BF16", "Q8_0", "Q4_0"])
def test_a_converted_pair_runs(tmp_path: Path, kind: str) -> None:
    """Target and drafter of every type load in llama.cpp and answer."""
    src = checkpoints.target(tmp_path / "T")
    target = convert_target(src, tmp_path / f"T-{kind}.gguf", type=kind)
    drafter = convert_draft(checkpoints.draft(tmp_path / "D"), src, tmp_path / f"dspark-T-{kind}.gguf", type=kind)
    inspect_files(target, drafter)
    with dspark_local.load(target, ctx_size=128, threads=1) as runtime:
        assert runtime.info.drafter == "dspark"
        assert runtime.generate("the thing", max_tokens=8).result().stats.rounds > 0


def test_bf16_is_exact(tmp_path: Path) -> None:
    """A BF16 tensor read as float32 has the same value, bit for bit."""
    bits = np.random.default_rng(0).integers(0, 0x7F80, 64, dtype=np.uint16)
    header = json.dumps({"x": {"dtype": "BF16", "shape": [64], "data_offsets": [0, 128]}}).encode()
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bits.tobytes())
    np.testing.assert_array_equal(Checkpoint(tmp_path).read("x").view(np.uint32) >> 16, bits)


def heads(tmp_path: Path, *, target_tied: bool, own: dict[str, np.ndarray]) -> GGUF:
    src = checkpoints.target(tmp_path / "T", tied=target_tied)
    draft = checkpoints.write(
        tmp_path / "D", checkpoints.draft_config(), checkpoints.draft_tensors() | own, tokenized=False
    )
    return GGUF.open(convert_draft(draft, src, tmp_path / "d.gguf", type="F32"))


def test_heads_that_equal_the_targets_are_left_out(tmp_path: Path) -> None:
    """Neither embedding nor head is written, so that llama.cpp takes both from the target."""
    theirs = checkpoints.target_tensors(tied=False)
    own = {"embed_tokens.weight": theirs["model.embed_tokens.weight"], "lm_head.weight": theirs["lm_head.weight"]}
    assert not {"token_embd.weight", "output.weight"} & set(heads(tmp_path, target_tied=False, own=own).tensors)


@pytest.mark.parametrize("target_tied", [True, False])
def test_heads_of_its_own_are_both_written(tmp_path: Path, target_tied: bool) -> None:
    """One that differs takes the other with it: an embedding alone would be tied to the head."""
    embedding = checkpoints.target_tensors()["model.embed_tokens.weight"]
    own = {"embed_tokens.weight": embedding, "lm_head.weight": random(VOCAB, HIDDEN, seed=77)}
    out = heads(tmp_path, target_tied=target_tied, own=own)
    np.testing.assert_array_equal(out.rows("token_embd.weight", ALL), embedding)
    np.testing.assert_array_equal(out.rows("output.weight", ALL), own["lm_head.weight"])


def test_half_a_pair_of_heads_is_refused(tmp_path: Path) -> None:
    """An embedding of its own without a head would draft garbage without a word."""
    with pytest.raises(ConvertError, match="lacks lm_head"):
        heads(tmp_path, target_tied=True, own={"embed_tokens.weight": random(VOCAB, HIDDEN, seed=78)})


def test_draft_keys(tmp_path: Path) -> None:
    """Checkpoints name layers by their output, llama.cpp by the input of the next."""
    out = heads(tmp_path, target_tied=True, own={})
    assert out.meta("dflash.target_layers") == (1, 2)
    assert out.meta("dflash.block_size") == 4
    assert out.meta("tokenizer.ggml.mask_token_id") == checkpoints.MASK


def drop(folder: Path, name: str) -> None:
    tensors = load_file(folder / "model.safetensors")
    del tensors[name]
    save_file(tensors, folder / "model.safetensors")


def put(folder: Path, name: str, value: np.ndarray) -> None:
    save_file(load_file(folder / "model.safetensors") | {name: value}, folder / "model.safetensors")


def cut(folder: Path, n: int) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:n])


def edit(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


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
    "rope scaling": (lambda f: edit(f, rope_scaling={"type": "yarn"}), "yarn"),
    "bias": (lambda f: edit(f, attention_bias=True), "attention_bias"),
    "small vocabulary": (lambda f: edit(f, vocab_size=200), "vocab_size 200"),
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


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"mask_token_id": None}, "mask_token_id"),
        ({"mask_token_id": VOCAB}, "mask_token_id"),
        ({"target_layer_ids": [0, 2]}, "below the target's last"),
        ({"target_layer_ids": []}, "target_layer_ids"),
        ({"hidden_size": 128}, "hidden_size is 128"),
        ({"vocab_size": 400}, "vocab_size is 400"),
        ({"block_size": 0}, "block_size"),
        ({"markov_head_type": "gated"}, "gated Markov head"),
        ({"markov_rank": 64}, "has shape"),
    ],
)
def test_drafters_that_do_not_fit_are_refused(tmp_path: Path, changes: dict[str, object], says: str) -> None:
    """Before anything is written."""
    src, draft = checkpoints.target(tmp_path / "T"), checkpoints.draft(tmp_path / "D")
    edit(draft, **changes)
    with pytest.raises(ConvertError, match=says):
        convert_draft(draft, src, tmp_path / "d.gguf", type="F16")
    assert not (tmp_path / "d.gguf").exists()


def test_an_unknown_type_is_refused(tmp_path: Path) -> None:
    """With the names that there are."""
    with pytest.raises(ConvertError, match="Q4_0"):
        convert_target(checkpoints.target(tmp_path / "T"), tmp_path / "t.gguf", type="Q3_Z")


def test_progress_counts_every_byte(tmp_path: Path) -> None:
    """It rises to the total, which is the size of the tensors."""
    seen: list[tuple[int, int]] = []
    src = checkpoints.target(tmp_path / "T")
    out = convert_target(src, tmp_path / "t.gguf", type="Q4_0", progress=lambda *at: seen.append(at))
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})
    assert seen[-1][0] == seen[-1][1] == sum(t.nbytes for t in GGUF.open(out).tensors.values())


def test_a_kill_leaves_nothing_that_looks_finished(tmp_path: Path) -> None:
    """Killed at any tensor, the output is absent; run again, it is whole."""
    src, out = checkpoints.target(tmp_path / "T"), tmp_path / "out" / "t.gguf"
    out.parent.mkdir()
    script = (
        "import os, signal, sys; from pathlib import Path; from dspark_local.convert import convert_target\n"
        "kill = lambda done, of: done > of // 2 and os.kill(os.getpid(), signal.SIGKILL)\n"
        "convert_target(Path(sys.argv[1]), Path(sys.argv[2]), type='F16', progress=kill)"
    )
    done = subprocess.run([sys.executable, "-P", "-c", script, src, out], check=False, timeout=60)
    assert done.returncode == -signal.SIGKILL
    assert not list(out.parent.glob("*.gguf"))
    GGUF.open(convert_target(src, out, type="F16"))


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    """The system's own words, and no traceback."""
    with pytest.raises(ConvertError, match="cannot be written: No such file"):
        convert_target(checkpoints.target(tmp_path / "T"), tmp_path / "nowhere" / "t.gguf", type="F16")


def test_a_full_disk_is_one_line_and_the_part_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When a tensor does not go to the disk any more."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(GGUFWriter, "write_tensor_data", full)
    (tmp_path / "out").mkdir()
    with pytest.raises(ConvertError, match="No space left"):
        convert_target(checkpoints.target(tmp_path / "T"), tmp_path / "out" / "t.gguf", type="F16")
    assert not list((tmp_path / "out").iterdir())
