"""A draft block, as config.json speaks of it in either dialect."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dspark_local.convert.config import shown
from dspark_local.errors import ConvertError

if TYPE_CHECKING:
    from dspark_local.convert.config import Config
    from dspark_local.convert.target import Target

_LONGEST_BLOCK = 256  # what formats/hyper.py takes


@dataclass(frozen=True, slots=True)
class Block:
    """What config.json says of a draft block; `layers` are those whose outputs are tapped, from 0."""

    size: int
    layers: tuple[int, ...]
    mask: int
    sample_from_anchor: bool
    causal: bool
    markov_rank: int
    draft_vocab: int


def read_block(config: Config, target: Target) -> Block:
    """What a drafter's config says of its blocks. Raises ConvertError for what is not converted, or does not fit."""
    nested = config.part("dflash_config")

    def either(key: str, default: Any = None) -> Any:  # noqa: ANN401 - whatever a config holds
        value = nested.get(key)
        return config.get(key, default) if value is None else value

    head, rank = either("markov_head_type", "vanilla"), either("markov_rank", 0)
    if head != "vanilla":
        raise ConvertError(f"llama.cpp has no graph for a {head} Markov head")
    for key in ("use_swa", "attention_value_scale", "conv_kernel_size", "output_multiplier", "input_embedding_scale"):
        if either(key):
            raise config.fault(f"{key} is not converted yet")
    vocab = config.count("vocab_size")
    draft_vocab = config.count("draft_vocab_size", vocab)
    if draft_vocab > vocab:
        raise config.fault(f"draft_vocab_size {draft_vocab} is more than vocab_size {vocab}")
    if not isinstance(rank, int) or rank < 0:
        raise config.fault(f"markov_rank must be a number, not {shown(rank)}")
    # exports of the speculators library, and DFlash as first published, begin a block with a token that is no draft;
    # DeepSpec's do not
    speculators = "transformer_layer_config" in config.values or "aux_hidden_state_layer_ids" in config.values
    dflash = "DFlashDraftModel" in config.get("architectures", ())
    causal = config.get("is_causal", nested.get("causal"))
    size = either("block_size")
    if not isinstance(size, int) or isinstance(size, bool) or not 2 <= size <= _LONGEST_BLOCK:  # noqa: PLR2004 - anchor and draft
        raise config.fault(f"block_size must be a number from 2 to {_LONGEST_BLOCK}, not {shown(size)}")
    return Block(
        size=size,
        layers=_layers(config, either, target),
        mask=_mask(config, either("mask_token_id")),
        sample_from_anchor=config.flag("sample_from_anchor", default=not (speculators or dflash)),
        causal=bool(causal),
        markov_rank=rank,
        draft_vocab=draft_vocab,
    )


def _mask(config: Config, mask: object) -> int:
    if not isinstance(mask, int) or not 0 <= mask < config.count("vocab_size"):
        raise config.fault(f"mask_token_id must be a token of the vocabulary, not {shown(mask)}")
    return mask


def _layers(config: Config, either: Any, target: Target) -> tuple[int, ...]:  # noqa: ANN401 - the lookup of _block
    """Layers whose outputs are tapped; the last layer's is to be had of few targets.

    DeepSpec counts them as outputs from 0, speculators as inputs of the layer after.
    """
    key, shift = "target_layer_ids", 0
    layers = either(key)
    if layers is None:
        key, shift = "aux_hidden_state_layer_ids", 1
        layers = config.get(key)
    last = target.num_hidden_layers - 1 + target.taps_last
    fits = isinstance(layers, list) and layers and all(isinstance(i, int) and 0 <= i - shift < last for i in layers)
    if not fits:
        raise config.fault(f"{key} must name layers below the target's last ({last + shift}), not {shown(layers)}")
    return tuple(i - shift for i in layers)
