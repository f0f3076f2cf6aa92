"""What the file of a DSpark or DFlash drafter says about itself (llama.cpp's architecture `dflash`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dspark_local.formats.faults import format_fault
from dspark_local.formats.vocab import MASK_ID, vocab_size

if TYPE_CHECKING:
    from dspark_local.errors import ModelFormatError
    from dspark_local.formats.gguf import GGUF

ARCH = "dflash"
TAPS_LAST = frozenset({"deepseek4"})  # targets whose graph fills the tap behind their last layer (src/models)
_DEFAULT_ANCHORS = True  # what llama.cpp assumes where the key is missing


@dataclass(frozen=True, slots=True)
class DraftSpec:
    """A drafter as its target and the engine must know it.

    `block_size` γ as trained; `target_layers` whose inputs are tapped, in the order in which they are
    concatenated; `sample_from_anchor` False: row 0 of a block predicts nothing; `causal` attention within a
    block; `markov_rank` 0 without a Markov head; `selector` k candidates a row in DFlash 2, else 0; `owns_embedding`
    and `owns_head` False: the target's serve; `draft_vocab_size` below `vocab_size` where `d2t` maps draft rows to
    target tokens.
    """

    block_size: int
    target_layers: tuple[int, ...]
    mask_token: int
    n_embd: int
    n_layer: int
    vocab_size: int
    draft_vocab_size: int
    markov_rank: int
    selector: int
    sample_from_anchor: bool
    causal: bool
    has_confidence_head: bool
    has_d2t: bool
    owns_embedding: bool
    owns_head: bool

    @property
    def has_markov(self) -> bool:
        """Whether it is a DSpark drafter; without the Markov head it is a DFlash one."""
        return self.markov_rank > 0

    @property
    def n_drafts(self) -> int:
        """How many tokens a whole block drafts."""
        return self.block_size if self.sample_from_anchor else self.block_size - 1


def is_draft(gguf: GGUF) -> bool:
    """Whether this is a drafter's file."""
    return gguf.arch == ARCH


def read_draft_spec(gguf: GGUF) -> DraftSpec:
    """Read a drafter's metadata. Raises ModelFormatError for what is missing or contradicts itself."""
    if not is_draft(gguf):
        raise _fault(gguf, f"not a DSpark drafter: its architecture is {gguf.arch}, not {ARCH}")
    tensors = gguf.tensors
    vocab = vocab_size(gguf)
    mask = gguf.meta(MASK_ID)
    if not isinstance(mask, int):
        raise _fault(gguf, f"has no mask token ({MASK_ID}); convert it again with `dspark-local convert draft`")
    if not 0 <= mask < vocab:
        raise _fault(gguf, f"{MASK_ID} is {mask}, outside the vocabulary of {vocab} tokens")
    has_markov, has_d2t = "markov_w1.weight" in tensors, "d2t" in tensors
    if has_markov != ("markov_w2.weight" in tensors):
        raise _fault(gguf, "has only one half of the Markov head (markov_w1, markov_w2)")
    if "conf_proj.weight" in tensors and not has_markov:
        raise _fault(gguf, "has a confidence head, but not the Markov head that it reads")
    if _flag(gguf, "has_confidence_head", default=False) and "conf_proj.weight" not in tensors:
        raise _fault(gguf, "says that it has a confidence head, but tensor 'conf_proj.weight' is missing")
    if has_d2t and "output.weight" not in tensors:
        raise _fault(gguf, "has a vocabulary of its own (d2t), but no head for it (output.weight)")
    selector = _count(gguf, "selector_top_k") if "selector_hidden.weight" in tensors else 0
    if selector and has_markov:
        raise _fault(gguf, "has both DFlash 2's selector and DSpark's Markov head")
    return DraftSpec(
        block_size=_count(gguf, "block_size"),
        target_layers=_target_layers(gguf),
        mask_token=mask,
        n_embd=_count(gguf, "embedding_length"),
        n_layer=_count(gguf, "block_count"),
        vocab_size=vocab,
        draft_vocab_size=_length(gguf, "d2t") if has_d2t else vocab,
        markov_rank=_length(gguf, "markov_w1.weight") if has_markov else 0,
        selector=selector,
        # row 0 of DFlash denoises the anchor itself, unless the file says otherwise, as DeepSpec's DFlash does
        sample_from_anchor=not selector and _flag(gguf, "sample_from_anchor", default=has_markov and _DEFAULT_ANCHORS),
        causal=_flag(gguf, "attention.causal", default=False),
        has_confidence_head="conf_proj.weight" in tensors,
        has_d2t=has_d2t,
        owns_embedding="token_embd.weight" in tensors,
        owns_head="output.weight" in tensors,
    )


def _target_layers(gguf: GGUF) -> tuple[int, ...]:
    key = f"{ARCH}.target_layers"
    layers = gguf.meta(key)
    if not isinstance(layers, tuple) or not layers:
        raise _fault(gguf, f"does not say which layers of the target it taps ({key})")
    if gguf.type_of(key) not in {"arr[i32]", "arr[u32]"}:
        raise _fault(gguf, f"{key} is of type {gguf.type_of(key)}, not arr[i32]")
    found = tuple(layer for layer in layers if isinstance(layer, int))
    if min(found) < 0 or len(set(found)) < len(found):
        raise _fault(gguf, f"{key} holds a negative layer or one twice: {list(found)}")
    return found


def _count(gguf: GGUF, key: str) -> int:
    value = gguf.meta(f"{ARCH}.{key}")
    if not isinstance(value, int) or value < 1:
        raise _fault(gguf, f"{ARCH}.{key} is missing or not a number above 0")
    return value


def _flag(gguf: GGUF, key: str, *, default: bool) -> bool:
    value = gguf.meta(f"{ARCH}.{key}", default)
    if not isinstance(value, bool):
        raise _fault(gguf, f"{ARCH}.{key} is of type {gguf.type_of(f'{ARCH}.{key}')}, not bool")
    return value


def _length(gguf: GGUF, name: str) -> int:
    shape = gguf.tensors[name].shape
    return shape[0] if shape else 1


def _fault(gguf: GGUF, what: str) -> ModelFormatError:
    return format_fault(gguf.path, what)
