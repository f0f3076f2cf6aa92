"""A converted drafter says what its checkpoint said, and takes from its target what is the target's."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from dspark_local.convert import convert_draft, convert_target
from dspark_local.errors import ConvertError
from dspark_local.formats.gguf import GGUF
from tests.convert import checkpoints
from tests.convert.checkpoints import HIDDEN, VOCAB, edit, random

if TYPE_CHECKING:
    from pathlib import Path

ALL = slice(None)
HEADS = {"token_embd.weight", "output.weight"}
EMBEDDING = checkpoints.target_tensors()["model.embed_tokens.weight"]
HEAD = checkpoints.target_tensors(tied=False)["lm_head.weight"]
OTHER = random(VOCAB, HIDDEN, seed=77)


def own(folder: Path, **heads: np.ndarray) -> Path:
    """A drafter that brings tensors of these names, `embed_tokens` or `lm_head`."""
    tensors = checkpoints.draft_tensors() | {f"{name}.weight": value for name, value in heads.items()}
    return checkpoints.write(folder, checkpoints.draft_config(), tensors, tokenized=False)


def test_every_tensor_arrives(tmp_path: Path) -> None:
    """In F32 each value is the checkpoint's own."""
    target, draft = checkpoints.target(tmp_path / "T"), checkpoints.draft(tmp_path / "D")
    out = GGUF.open(convert_draft(draft, target, tmp_path / "d.gguf", type="F32"))
    names = {
        "fc.weight": "fc.weight",
        "hidden_norm.weight": "enc.output_norm.weight",
        "norm.weight": "output_norm.weight",
        "markov_head.markov_w1.weight": "markov_w1.weight",
        "markov_head.markov_w2.weight": "markov_w2.weight",
        "confidence_head.proj.weight": "conf_proj.weight",
        "confidence_head.proj.bias": "conf_proj.bias",
        **checkpoints.layer_names(1),
    }
    source = load_file(draft / "model.safetensors")
    assert {names[name] for name in source} == set(out.tensors)
    for theirs, want in source.items():
        np.testing.assert_array_equal(out.rows(names[theirs], ALL).reshape(want.shape), want)


def test_every_key_arrives(tmp_path: Path) -> None:
    """Checkpoints name layers by their output, llama.cpp by the input of the next; the tokenizer is the target's."""
    target = checkpoints.target(tmp_path / "T")
    out = GGUF.open(convert_draft(checkpoints.draft(tmp_path / "D"), target, tmp_path / "d.gguf", type="F16"))
    want = {
        "general.architecture": "dflash",
        "dflash.block_count": 1,
        "dflash.embedding_length": HIDDEN,
        "dflash.target_layers": (1, 2),
        "dflash.block_size": 4,
        "dflash.sample_from_anchor": True,
        "dflash.has_confidence_head": True,
        "dflash.attention.causal": False,
        "tokenizer.ggml.mask_token_id": checkpoints.MASK,
        "tokenizer.ggml.eos_token_id": 297,
    }
    assert {key: out.meta(key) for key in want} == want


@pytest.mark.parametrize(
    ("changes", "key", "value"),
    [
        ({"sample_from_anchor": False}, "dflash.sample_from_anchor", False),
        ({"is_causal": True}, "dflash.attention.causal", True),
        ({"target_layer_ids": [1, 0]}, "dflash.target_layers", (2, 1)),
    ],
)
def test_what_the_config_says_is_kept(tmp_path: Path, changes: dict[str, object], key: str, value: object) -> None:
    """Taps keep their order, in which the features are joined."""
    edit(draft := checkpoints.draft(tmp_path / "D"), **changes)
    out = convert_draft(draft, checkpoints.target(tmp_path / "T"), tmp_path / "d.gguf", type="F16")
    assert GGUF.open(out).meta(key) == value


def test_a_drafter_without_confidence_head_says_so(tmp_path: Path) -> None:
    """The head is optional in the graph, and no tensor of it is invented."""
    draft = checkpoints.draft(tmp_path / "D")
    tensors = {n: t for n, t in load_file(draft / "model.safetensors").items() if not n.startswith("confidence")}
    save_file(tensors, draft / "model.safetensors")
    out = GGUF.open(convert_draft(draft, checkpoints.target(tmp_path / "T"), tmp_path / "d.gguf", type="F16"))
    assert out.meta("dflash.has_confidence_head") is False
    assert not [name for name in out.tensors if name.startswith("conf_proj")]


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("source", ["folder", "F32", "F16", "BF16"])
def test_heads_that_equal_the_targets_are_left_out(tmp_path: Path, tied: bool, source: str) -> None:
    """Neither is written, so that llama.cpp takes both from the target: from whatever the target is given as."""
    target = checkpoints.target(tmp_path / "T", tied=tied)
    if source != "folder":
        target = convert_target(target, tmp_path / "t.gguf", type=source)
    draft = own(tmp_path / "D", embed_tokens=EMBEDDING, lm_head=EMBEDDING if tied else HEAD)
    assert not HEADS & set(GGUF.open(convert_draft(draft, target, tmp_path / "d.gguf", type="F32")).tensors)


@pytest.mark.parametrize("heads", [(EMBEDDING, OTHER), (OTHER, HEAD), (EMBEDDING, EMBEDDING)])
@pytest.mark.parametrize("source", ["folder", "F16"])
def test_heads_of_its_own_are_both_written(tmp_path: Path, heads: tuple[np.ndarray, np.ndarray], source: str) -> None:
    """One that differs takes the other with it: an embedding alone would be tied to the head."""
    target = checkpoints.target(tmp_path / "T", tied=False)
    if source != "folder":
        target = convert_target(target, tmp_path / "t.gguf", type=source)
    draft = own(tmp_path / "D", embed_tokens=heads[0], lm_head=heads[1])
    out = GGUF.open(convert_draft(draft, target, tmp_path / "d.gguf", type="F32"))
    np.testing.assert_array_equal(out.rows("token_embd.weight", ALL), heads[0])
    np.testing.assert_array_equal(out.rows("output.weight", ALL), heads[1])


def test_one_number_in_the_last_row_is_a_difference(tmp_path: Path) -> None:
    """The comparison reaches the end."""
    head = HEAD.copy()
    head[-1, -1] += 1
    draft = own(tmp_path / "D", embed_tokens=EMBEDDING, lm_head=head)
    target = checkpoints.target(tmp_path / "T", tied=False)
    assert set(GGUF.open(convert_draft(draft, target, tmp_path / "d.gguf", type="F32")).tensors) > HEADS


@pytest.mark.parametrize(("name", "lacks"), [("embed_tokens", "lm_head"), ("lm_head", "embed_tokens")])
def test_half_a_pair_of_heads_is_refused(tmp_path: Path, name: str, lacks: str) -> None:
    """An embedding of its own without a head would draft garbage without a word."""
    draft = own(tmp_path / "D", **{name: OTHER})
    with pytest.raises(ConvertError, match=f"lacks {lacks}"):
        convert_draft(draft, checkpoints.target(tmp_path / "T"), tmp_path / "d.gguf", type="F16")


def test_a_coarse_target_cannot_be_compared_with(tmp_path: Path) -> None:
    """It is refused where the drafter brings heads, and serves where it brings none."""
    target = convert_target(checkpoints.target(tmp_path / "T"), tmp_path / "t.gguf", type="Q8_0")
    with pytest.raises(ConvertError, match="too coarse"):
        convert_draft(own(tmp_path / "D", embed_tokens=EMBEDDING), target, tmp_path / "d.gguf", type="F16")
    convert_draft(own(tmp_path / "E"), target, tmp_path / "d.gguf", type="F16")


def test_a_target_from_gguf_makes_the_same_drafter(tmp_path: Path) -> None:
    """Every key and every tensor, as from the target's checkpoint."""
    src, draft = checkpoints.target(tmp_path / "T"), checkpoints.draft(tmp_path / "D")
    target = convert_target(src, tmp_path / "t.gguf", type="Q4_0")
    one = GGUF.open(convert_draft(draft, src, tmp_path / "one.gguf", type="Q8_0"))
    two = GGUF.open(convert_draft(draft, target, tmp_path / "two.gguf", type="Q8_0"))
    assert set(one.header.entries) == set(two.header.entries)
    for key in one.header.entries:
        assert (key, one.type_of(key), one.raw(key)) == (key, two.type_of(key), two.raw(key))
    assert list(one.tensors) == list(two.tensors)
    for name in one.tensors:
        np.testing.assert_array_equal(one.rows(name, ALL), two.rows(name, ALL))


def test_a_drafter_is_no_target(tmp_path: Path) -> None:
    """Given as GGUF or as a folder."""
    draft = checkpoints.draft(tmp_path / "D")
    made = convert_draft(draft, checkpoints.target(tmp_path / "T"), tmp_path / "d.gguf", type="F16")
    with pytest.raises(ConvertError, match="is a drafter"):
        convert_draft(draft, made, tmp_path / "e.gguf", type="F16")
    with pytest.raises(ConvertError, match="targets that can be converted"):
        convert_draft(draft, draft, tmp_path / "e.gguf", type="F16")


@pytest.mark.parametrize("source", ["folder", "GGUF"])
@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"mask_token_id": None}, "mask_token_id"),
        ({"mask_token_id": VOCAB}, "mask_token_id"),
        ({"target_layer_ids": [0, 2]}, "below the target's last"),
        ({"target_layer_ids": []}, "target_layer_ids"),
        ({"num_target_layers": 4}, "num_target_layers is 4, the target's 3"),
        ({"hidden_size": 128}, "hidden_size is 128"),
        ({"vocab_size": 400}, "vocab_size is 400"),
        ({"block_size": 0}, "block_size"),
        ({"markov_head_type": "gated"}, "gated Markov head"),
        ({"markov_rank": 64}, "has shape"),
        ({"hidden_act": "gelu"}, "'gelu' is not converted"),
        ({"use_sliding_window": True}, "use_sliding_window"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path: Path, changes: dict[str, object], says: str, source: str) -> None:
    """Before anything is written."""
    target, draft = checkpoints.target(tmp_path / "T"), checkpoints.draft(tmp_path / "D")
    if source == "GGUF":
        target = convert_target(target, tmp_path / "t.gguf", type="Q8_0")
    edit(draft, **changes)
    with pytest.raises(ConvertError, match=says):
        convert_draft(draft, target, tmp_path / "d.gguf", type="F16")
    assert not (tmp_path / "d.gguf").exists()


def test_a_head_of_another_shape_is_refused(tmp_path: Path) -> None:
    """With the shape that was expected."""
    draft = own(tmp_path / "D", lm_head=random(VOCAB - 1, HIDDEN, seed=5))
    with pytest.raises(ConvertError, match=json.dumps([VOCAB, HIDDEN]).replace("[", r"\[")):
        convert_draft(draft, checkpoints.target(tmp_path / "T"), tmp_path / "d.gguf", type="F16")
