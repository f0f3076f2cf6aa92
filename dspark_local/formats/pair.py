"""Do target and drafter belong together? All of it is asked before llama.cpp could abort on the answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dspark_local.formats.dflash import TAPS_LAST, DraftSpec, is_draft, read_draft_spec
from dspark_local.formats.faults import format_fault, pair_fault
from dspark_local.formats.recurrent import cannot_verify
from dspark_local.formats.vocab import TOKENS, vocab_size

if TYPE_CHECKING:
    from dspark_local.formats.gguf import GGUF

# Drafters of other kinds, which are not driven.
DRAFT_ARCHES = {"eagle3", "gemma4-assistant"}
_NOT_TEXT = {"clip", "wavtokenizer-dec"}


def check_target(target: GGUF) -> None:
    """Raise ModelFormatError if this file is a drafter, or writes no text."""
    if is_draft(target) or target.arch in DRAFT_ARCHES:
        what = "a drafter, which writes no text by itself: give its target as MODEL and this as --drafter"
        raise format_fault(target.path, what)
    if target.arch in _NOT_TEXT or target.meta(f"{target.arch}.attention.causal") is False:
        raise format_fault(target.path, f"a {target.arch} model that writes no text")


def check_pair(target: GGUF, draft: GGUF) -> DraftSpec:
    """Check that `draft` drafts for `target`.

    Raises ModelFormatError for a file that is wrong by itself, PairError if the two do not belong together.
    """
    check_target(target)
    if why := cannot_verify(target):
        raise pair_fault(draft.path, target.path, f"{why}: run it with --no-draft")
    if not is_draft(draft):
        what = f"a {draft.arch} model, not a DSpark drafter: choose another --drafter or --no-draft"
        raise format_fault(draft.path, what)
    spec = read_draft_spec(draft)
    n_embd, n_layer = _number(target, "embedding_length"), _number(target, "block_count")
    if spec.n_embd != n_embd:
        raise pair_fault(draft.path, target.path, f"its width is {spec.n_embd}, the target's {n_embd}")
    if spec.vocab_size != vocab_size(target):
        what = f"its vocabulary has {spec.vocab_size} tokens, the target's {vocab_size(target)}"
        raise pair_fault(draft.path, target.path, what)
    _check_tokenizer(target, draft, spec)
    if max(spec.target_layers) >= n_layer + (target.arch in TAPS_LAST):
        what = f"it taps the input of layer {max(spec.target_layers)}, the target's last is {n_layer - 1}"
        raise pair_fault(draft.path, target.path, what)
    if spec.owns_embedding and not spec.owns_head and "output.weight" in target.tensors:
        # llama.cpp would tie the drafter's head to its embedding and draft garbage without a word
        what = "it has an embedding but no head, and the target's head is not tied to its embedding"
        raise pair_fault(draft.path, target.path, f"{what}: mend it with `dspark-local convert repair`")
    return spec


def _number(target: GGUF, key: str) -> int:
    value = target.meta(f"{target.arch}.{key}")
    if not isinstance(value, int):
        raise format_fault(target.path, f"{target.arch}.{key} is missing or not a number")
    return value


def _check_tokenizer(target: GGUF, draft: GGUF, spec: DraftSpec) -> None:
    for key in ("tokenizer.ggml.model", "tokenizer.ggml.pre"):
        if target.meta(key) != draft.meta(key):
            what = f"its tokenizer is another ({key} is {draft.meta(key)}, the target's {target.meta(key)})"
            raise pair_fault(draft.path, target.path, what)
    if target.raw(TOKENS) == draft.raw(TOKENS):
        return
    tokens = zip(target.strings(TOKENS), draft.strings(TOKENS), strict=True)
    for i, (theirs, ours) in enumerate(tokens):
        # A converter may name the mask, for which the target has but a padding token.
        if theirs != ours and i != spec.mask_token:
            shown = f"token {i} is {repr(ours)[1:]}, the target's {repr(theirs)[1:]}"
            raise pair_fault(draft.path, target.path, f"its tokenizer is another ({shown})")
