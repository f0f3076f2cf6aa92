"""DSpark drafters in DeepSpec's format (`Qwen3DSparkModel`) to llama.cpp's architecture `dflash`.

llama.cpp's loader ties a head that is missing to an embedding that is there. So a drafter's file has both or neither:
neither when they are the target's, which llama.cpp then takes from the target; both when they are its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dspark_local.convert import family
from dspark_local.convert.checkpoint import slabs
from dspark_local.convert.quantise import file_type
from dspark_local.convert.target import EMBEDDING, HEAD
from dspark_local.convert.writer import write
from dspark_local.errors import ConvertError

if TYPE_CHECKING:
    from pathlib import Path

    from gguf import GGUFWriter

    from dspark_local.convert.checkpoint import Checkpoint
    from dspark_local.convert.quantise import Type
    from dspark_local.convert.target import Target
    from dspark_local.convert.writer import Progress

ARCHITECTURE = "Qwen3DSparkModel"
_OWN = {"embed_tokens.weight": EMBEDDING, "lm_head.weight": HEAD}


def convert(draft: Checkpoint, target: Target, out: Path, kind: Type, progress: Progress | None) -> Path:
    """Write the drafter of `target`, with the target's tokenizer. Raises ConvertError."""
    family.refuse_unknown(draft)
    _refuse_stranger(draft, target)
    mask, layers, block = _mask(draft), _target_layers(draft, target), family.number(draft, "block_size")
    if draft.config.get("markov_head_type", "vanilla") != "vanilla":
        raise ConvertError(f"llama.cpp has no graph for a {draft.config['markov_head_type']} Markov head")
    has_confidence = "confidence_head.proj.weight" in draft.tensors
    names = _names(draft, taps=len(layers), has_confidence=has_confidence)
    shared = _shares_heads(draft, target)
    if not shared:
        size = (family.number(draft, "vocab_size"), family.number(draft, "hidden_size"))
        names |= {theirs: (ours, size) for theirs, ours in _OWN.items()}

    def keys(writer: GGUFWriter) -> None:
        writer.add_name(draft.folder.name)
        writer.add_file_type(file_type(kind))
        family.hyperparameters(writer, draft)
        writer.add_uint32("dflash.block_size", block)
        writer.add_array("dflash.target_layers", [layer + 1 for layer in layers])
        writer.add_bool("dflash.sample_from_anchor", bool(draft.config.get("sample_from_anchor", True)))
        writer.add_bool("dflash.has_confidence_head", has_confidence)
        writer.add_bool("dflash.attention.causal", bool(draft.config.get("is_causal", False)))
        target.write_tokenizer(writer, mask=mask)

    ignored = frozenset(_OWN) if shared else frozenset[str]()
    return write(out, "dflash", keys, family.plan(draft, names, kind, ignored=ignored), progress)


def _refuse_stranger(draft: Checkpoint, target: Target) -> None:
    """Raise ConvertError where the drafter's config speaks of another target."""
    told = {
        "hidden_size": (family.number(draft, "hidden_size"), target.hidden_size),
        "vocab_size": (family.number(draft, "vocab_size"), target.vocab_size),
        "num_target_layers": (
            draft.config.get("num_target_layers", target.num_hidden_layers),
            target.num_hidden_layers,
        ),
    }
    for key, (ours, theirs) in told.items():
        if ours != theirs:
            raise ConvertError(
                f"{draft.folder.name} is no drafter of {target.name}: its {key} is {ours}, the target's {theirs}"
            )


def _names(draft: Checkpoint, *, taps: int, has_confidence: bool) -> family.Names:
    vocab, hidden = family.number(draft, "vocab_size"), family.number(draft, "hidden_size")
    rank = family.number(draft, "markov_rank")
    names: family.Names = {
        "fc.weight": ("fc.weight", (hidden, taps * hidden)),
        "hidden_norm.weight": ("enc.output_norm.weight", (hidden,)),
        "norm.weight": ("output_norm.weight", (hidden,)),
        "markov_head.markov_w1.weight": ("markov_w1.weight", (vocab, rank)),
        "markov_head.markov_w2.weight": ("markov_w2.weight", (vocab, rank)),
    }
    if has_confidence:
        names["confidence_head.proj.weight"] = ("conf_proj.weight", (1, hidden + rank))
        if "confidence_head.proj.bias" in draft.tensors:
            names["confidence_head.proj.bias"] = ("conf_proj.bias", (1,))
    return names | family.layers(draft)


def _mask(draft: Checkpoint) -> int:
    mask = draft.config.get("mask_token_id", draft.config.get("dflash_config", {}).get("mask_token_id"))
    if not isinstance(mask, int) or not 0 <= mask < family.number(draft, "vocab_size"):
        raise ConvertError(f"{draft.folder}/config.json: mask_token_id must be a token of the vocabulary, not {mask!r}")
    return mask


def _target_layers(draft: Checkpoint, target: Target) -> list[int]:
    """Layers whose outputs are tapped, in the checkpoint's numbering; the last layer's is not to be had."""
    layers = draft.config.get("target_layer_ids", draft.config.get("dflash_config", {}).get("target_layer_ids"))
    last = target.num_hidden_layers - 1
    if not isinstance(layers, list) or not layers or not all(isinstance(i, int) and 0 <= i < last for i in layers):
        raise ConvertError(
            f"{draft.folder}/config.json: target_layer_ids must name layers below the target's last ({last}), "
            f"not {layers!r}"
        )
    return layers


def _shares_heads(draft: Checkpoint, target: Target) -> bool:
    """Whether embedding and head are the target's: left out, or equal to the last number."""
    own = {name: n for name in _OWN for n in (name, f"model.{name}") if n in draft.tensors}
    if all(_equal(draft, own[name], target, _OWN[name]) for name in own):
        return True
    if missing := sorted(_OWN.keys() - own):
        raise ConvertError(f"{draft.folder} has its own {next(iter(own))} but lacks {missing[0]}; it is not whole")
    return False


def _equal(draft: Checkpoint, name: str, target: Target, head: str) -> bool:
    shape = draft.tensors[name].shape
    if shape != (target.vocab_size, target.hidden_size):
        raise ConvertError(
            f"{name} has shape {list(shape)}, and config.json says {[target.vocab_size, target.hidden_size]}"
        )
    return all(target.holds(head, rows, draft.read(name, rows)) for rows in slabs(shape))
