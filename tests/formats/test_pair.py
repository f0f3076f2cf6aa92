"""Drafter and target: what a drafter says of itself, and whom it drafts for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from dspark_local.errors import ModelError, ModelFormatError, PairError
from dspark_local.formats.dflash import read_draft_spec
from dspark_local.formats.gguf import GGUF
from dspark_local.formats.inspection import inspect_files
from dspark_local.formats.model import Soundness
from dspark_local.formats.pair import check_pair, check_target
from tests.formats import tiny
from tests.formats.tiny import BOOL, I32, STR, U32, Array, Tensor, Tiny

if TYPE_CHECKING:
    from pathlib import Path

T, D = tiny.target(), tiny.draft()
UNTIED = tiny.target(untied=True)


def opened(model: Tiny, path: Path) -> GGUF:
    return GGUF.open(model.write(path))


def test_a_drafter_is_read_as_it_was_written(tmp_path: Path) -> None:
    """Every field of the spec comes from its key or tensor."""
    spec = read_draft_spec(opened(D, tmp_path / "d.gguf"))
    assert (spec.block_size, spec.target_layers, spec.mask_token) == (tiny.BLOCK, (0, 1), tiny.MASK)
    assert (spec.n_embd, spec.n_layer, spec.vocab_size) == (tiny.N_EMBD, 1, tiny.N_VOCAB)
    assert (spec.has_markov, spec.markov_rank, spec.has_confidence_head) == (True, tiny.RANK, True)
    assert (spec.sample_from_anchor, spec.causal, spec.n_drafts) == (True, False, tiny.BLOCK)
    assert (spec.owns_embedding, spec.owns_head, spec.has_d2t) == (False, False, False)


def test_heads_of_its_own_and_a_vocabulary_of_its_own_show(tmp_path: Path) -> None:
    """Owned heads, a reduced vocabulary and a bonus anchor are read."""
    own = read_draft_spec(opened(tiny.draft(own_heads=True), tmp_path / "own.gguf"))
    assert (own.owns_embedding, own.owns_head) == (True, True)
    reduced = tiny.draft(d2t=True).with_keys(dflash__sample_from_anchor=(BOOL, False))
    spec = read_draft_spec(opened(reduced, tmp_path / "d2t.gguf"))
    assert (spec.has_d2t, spec.draft_vocab_size, spec.vocab_size) == (True, tiny.N_VOCAB // 2, tiny.N_VOCAB)
    assert (spec.sample_from_anchor, spec.n_drafts) == (False, tiny.BLOCK - 1)


def test_a_plain_dflash_drafter_has_no_markov_head(tmp_path: Path) -> None:
    """Without markov_w1 the drafter is DFlash: rank 0, no confidence."""
    names = ("markov_w1.weight", "markov_w2.weight", "conf_proj.weight", "conf_proj.bias")
    plain = D.with_tensors(dict.fromkeys(names)).with_keys(dflash__has_confidence_head=(BOOL, False))
    spec = read_draft_spec(opened(plain, tmp_path / "d.gguf"))
    assert (spec.has_markov, spec.has_confidence_head) == (False, False)


def matrix(rows: int, width: int) -> Tensor:
    return Tensor(np.zeros((rows, width), np.float32))


BROKEN = {
    "no mask": (D.with_keys(tokenizer__ggml__mask_token_id=None), "has no mask token"),
    "mask outside": (D.with_keys(tokenizer__ggml__mask_token_id=(U32, 264)), "264, outside the vocabulary"),
    "no layers": (D.with_keys(dflash__target_layers=None), "does not say which layers"),
    "one layer, scalar": (D.with_keys(dflash__target_layers=(U32, 1)), "does not say which layers"),
    "names of layers": (D.with_keys(dflash__target_layers=Array(STR, ["1"])), r"arr\[str\], not arr\[i32\]"),
    "negative layer": (D.with_keys(dflash__target_layers=Array(I32, [-1, 0])), "a negative layer or one twice"),
    "layer twice": (D.with_keys(dflash__target_layers=Array(I32, [1, 1])), "a negative layer or one twice"),
    "no block size": (D.with_keys(dflash__block_size=None), "dflash.block_size is missing"),
    "causal is a number": (D.with_keys(dflash__attention__causal=(U32, 0)), "of type u32, not bool"),
    "half a Markov head": (D.with_tensors({"markov_w2.weight": None}), "only one half of the Markov head"),
    "confidence alone": (
        D.with_tensors({"markov_w1.weight": None, "markov_w2.weight": None}),
        "not the Markov head that it reads",
    ),
    "promised confidence": (
        D.with_tensors({"conf_proj.weight": None, "conf_proj.bias": None}),
        "'conf_proj.weight' is missing",
    ),
    "d2t without a head": (
        tiny.draft(d2t=True).with_tensors({"output.weight": None}),
        "a vocabulary of its own .d2t., but no head",
    ),
    "no drafter": (T, "not a DSpark drafter"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_drafter_is_refused(name: str, tmp_path: Path) -> None:
    """Each fault has its own message of one line."""
    model, message = BROKEN[name]
    with pytest.raises(ModelFormatError, match=message) as caught:
        read_draft_spec(opened(model, tmp_path / "d.gguf"))
    assert "\n" not in str(caught.value)


def shrunk(model: Tiny) -> Tiny:
    words = Array(STR, tiny.tokens()[:200])
    return model.with_keys(tokenizer__ggml__tokens=words, tokenizer__ggml__mask_token_id=(U32, 199))


def renamed(model: Tiny, index: int) -> Tiny:
    words = tiny.tokens()
    words[index] = "something-else"
    return model.with_keys(tokenizer__ggml__tokens=Array(STR, words))


STRANGERS = {
    "another width": (T, D.with_keys(dflash__embedding_length=(U32, 32)), "its width is 32, the target's 64"),
    "another vocabulary": (T, shrunk(D), "its vocabulary has 200 tokens, the target's 264"),
    "another tokenizer": (T, renamed(D, 7), "its tokenizer is another .token 7 is 'something-else'"),
    "another pre-tokenizer": (
        T,
        D.with_keys(tokenizer__ggml__pre=(STR, "llama-bpe")),
        "tokenizer.ggml.pre is llama-bpe, the target's qwen2",
    ),
    "a layer too far": (
        T,
        D.with_keys(dflash__target_layers=Array(I32, [1, 2])),
        "taps the input of layer 2, the target's last is 1",
    ),
    "wrongly tied": (
        UNTIED,
        tiny.draft(own_heads=True).with_tensors({"output.weight": None}),
        "mend it with `dspark-local convert repair`",
    ),
}


@pytest.mark.parametrize("name", STRANGERS)
def test_a_drafter_of_another_target_is_refused(name: str, tmp_path: Path) -> None:
    """PairError names both files and what differs, in one line."""
    target, draft, message = STRANGERS[name]
    with pytest.raises(PairError, match=message) as caught:
        check_pair(opened(target, tmp_path / "t.gguf"), opened(draft, tmp_path / "d.gguf"))
    assert str(caught.value).startswith("d.gguf is no drafter for t.gguf: ")
    assert "\n" not in str(caught.value)


def test_a_drafter_as_target_and_a_target_as_drafter_are_told_apart(tmp_path: Path) -> None:
    """Swapped files are refused with what to do instead."""
    target, draft = opened(T, tmp_path / "t.gguf"), opened(D, tmp_path / "d.gguf")
    with pytest.raises(ModelFormatError, match=r"d\.gguf: a drafter, .* give its target as MODEL"):
        check_target(draft)
    with pytest.raises(ModelFormatError, match="a drafter, which writes no text"):
        check_pair(draft, target)
    with pytest.raises(ModelFormatError, match="a qwen3 model, not a DSpark drafter"):
        check_pair(target, target)


def test_a_model_that_does_not_write_is_no_target(tmp_path: Path) -> None:
    """A model without causal attention is refused."""
    encoder = T.with_keys(qwen3__attention__causal=(BOOL, False))
    with pytest.raises(ModelFormatError, match="writes no text"):
        check_target(opened(encoder, tmp_path / "t.gguf"))


def test_a_name_for_the_mask_does_not_make_another_tokenizer(tmp_path: Path) -> None:
    """The mask token alone may be spelled differently."""
    target, draft = opened(T, tmp_path / "t.gguf"), opened(renamed(D, tiny.MASK), tmp_path / "d.gguf")
    assert check_pair(target, draft).mask_token == tiny.MASK


@pytest.mark.parametrize("own_heads", [True, False])
@pytest.mark.parametrize("untied", [True, False])
def test_rightly_tied_pairs_pass(untied: bool, own_heads: bool, tmp_path: Path) -> None:
    """Both heads or neither is right for every target."""
    tiny.target(untied=untied).write(tmp_path / "t.gguf")
    tiny.draft(own_heads=own_heads).write(tmp_path / "d.gguf")
    found = inspect_files(tmp_path / "t.gguf", tmp_path / "d.gguf")
    assert found.soundness is Soundness.SOUND
    assert found.spec
    assert found.spec.owns_head is own_heads


def test_inspection_finds_faults_of_either_file(tmp_path: Path) -> None:
    """A fault in the tensor table of target or drafter, or in the pair, is raised; a lone target may do."""
    t, d = T.write(tmp_path / "t.gguf"), D.write(tmp_path / "d.gguf")
    assert inspect_files(t).spec is None
    bad_t = T.with_tensors({"output_norm.weight": None}).write(tmp_path / "bad-t.gguf")
    bad_d = D.with_tensors({"fc.weight": matrix(64, 64)}).write(tmp_path / "bad-d.gguf")
    for pair, name in (((bad_t, d), "bad-t.gguf"), ((t, bad_d), "bad-d.gguf")):
        with pytest.raises(ModelError, match=name):
            inspect_files(*pair)
