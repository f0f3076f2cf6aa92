"""A drafter: the tables of its family, its block, and its heads beside those of its target.

llama.cpp's loader ties a head that is missing to an embedding that is there. So a drafter's file has both or neither:
neither when they are the target's, which llama.cpp then takes from the target; both when they are its own. A head
over a vocabulary of its own is always its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dspark_local.convert import family as tables
from dspark_local.convert.block import read_block
from dspark_local.convert.checkpoint import slabs
from dspark_local.convert.families import draft_family
from dspark_local.convert.plan import Tell, named, plan, table
from dspark_local.convert.quantise import file_type
from dspark_local.convert.target import EMBEDDING, HEAD
from dspark_local.convert.writer import values, write
from dspark_local.errors import ConvertError

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt
    from gguf import GGUFWriter

    from dspark_local.convert.block import Block
    from dspark_local.convert.checkpoint import Checkpoint
    from dspark_local.convert.config import Config
    from dspark_local.convert.quantise import Type
    from dspark_local.convert.target import Target
    from dspark_local.convert.writer import Progress

_OWN = {"embed_tokens.weight": (tables.EMBEDDING, EMBEDDING), "lm_head.weight": (tables.HEAD, HEAD)}


def convert(
    draft: Checkpoint,
    target: Target,
    out: Path,
    kind: Type,
    progress: Progress | None,
    *,
    tell: Tell = lambda _name, _kind, _error: None,
) -> Path:
    """Write the drafter of `target`, with the target's tokenizer. Raises ConvertError."""
    family = draft_family(draft)
    config = family.config(draft)
    family.check(config)
    _refuse_stranger(draft, config, target)
    block = read_block(config, target)
    have = named(draft, family)
    known = family.sizes(config, 0) | {
        "taps": len(block.layers) * config.count("hidden_size"),
        "rank": block.markov_rank,
        "draft_vocab": block.draft_vocab,
        "conf_rows": int("confidence_head.proj.weight" in have),
        "conf": config.count("hidden_size") + block.markov_rank,
        "conf_bias": int("confidence_head.proj.bias" in have),
    }
    rows = table(family, config, (*family.root, *_own_heads(draft, config, target, block, have)), known)
    reduced = block.draft_vocab < config.count("vocab_size")
    if reduced and "d2t" not in have:
        raise ConvertError(f"{draft.folder} has a vocabulary of its own, but no d2t that maps it to the target's")
    ignored = family.unused(config) | {*_OWN, "t2d", *(("d2t",) if reduced else ())}
    tensors = plan(draft, family, config, rows, kind, ignored=ignored, tell=tell)
    tensors += [values(name, array) for name, array in family.computed(config).items()]
    if reduced:
        tensors.append(values("d2t", _target_ids(draft, have["d2t"], block, target)))

    def keys(writer: GGUFWriter) -> None:
        writer.add_name(draft.name)
        writer.add_file_type(file_type(kind, (t.kind for t in tensors)))
        tables.hyperparameters(writer, config)
        family.keys(writer, config)
        writer.add_uint32("dflash.block_size", block.size)
        writer.add_array("dflash.target_layers", [layer + 1 for layer in block.layers])
        writer.add_bool("dflash.sample_from_anchor", block.sample_from_anchor)
        writer.add_bool("dflash.has_confidence_head", bool(known["conf_rows"]))
        writer.add_bool("dflash.attention.causal", block.causal)
        target.write_tokenizer(writer, mask=block.mask)

    return write(out, family.arch, keys, tensors, progress)


def _refuse_stranger(draft: Checkpoint, config: Config, target: Target) -> None:
    """Raise ConvertError where the drafter's config speaks of another target."""
    told = {
        "hidden_size": (config.count("hidden_size"), target.hidden_size),
        "vocab_size": (config.count("vocab_size"), target.vocab_size),
        "num_target_layers": (config.get("num_target_layers", target.num_hidden_layers), target.num_hidden_layers),
    }
    for key, (ours, theirs) in told.items():
        if ours != theirs:
            raise ConvertError(
                f"{draft.name} is no drafter of {target.name}: its {key} is {ours}, the target's {theirs}"
            )


def _own_heads(
    draft: Checkpoint, config: Config, target: Target, block: Block, have: dict[str, str]
) -> tuple[tables.Row, ...]:
    """Rows of embedding and head as far as the drafter has them for itself."""
    embedding, head = "embed_tokens.weight", "lm_head.weight"
    if block.draft_vocab < config.count("vocab_size"):
        own = tables.Row(head, HEAD, "draft_vocab hidden")
        if embedding not in have or _equal(draft, have[embedding], target, EMBEDDING):
            return (own,)
        return (tables.EMBEDDING, own)
    if all(_equal(draft, have[name], target, ours) for name, (_, ours) in _OWN.items() if name in have):
        return ()
    if missing := sorted(_OWN.keys() - have):
        there = next(name for name in _OWN if name in have)
        raise ConvertError(f"{draft.folder} has its own {there} but lacks {missing[0]}; it is not whole")
    return tuple(row for row, _ in _OWN.values())


def _equal(draft: Checkpoint, name: str, target: Target, head: str) -> bool:
    shape = draft.tensors[name].shape
    if shape != (target.vocab_size, target.hidden_size):
        raise ConvertError(
            f"{name} has shape {list(shape)}, and config.json says {[target.vocab_size, target.hidden_size]}"
        )
    return all(target.holds(head, rows, draft.read(name, rows)) for rows in slabs(shape))


def _target_ids(draft: Checkpoint, name: str, block: Block, target: Target) -> npt.NDArray[np.int64]:
    """d2t as token ids of the target; checkpoints hold how far each id lies above its row."""
    stored = draft.tensors[name]
    if stored.dtype not in ("I64", "I32") or stored.shape != (block.draft_vocab,):
        raise ConvertError(f"{name} is {stored.dtype} {list(stored.shape)}, not {block.draft_vocab} whole numbers")
    ids = draft.raw(name).astype(np.int64) + np.arange(block.draft_vocab)
    if ids.min() < 0 or ids.max() >= target.vocab_size or len(np.unique(ids)) < len(ids):
        raise ConvertError(f"{name} maps two rows to one token, or one outside the target's {target.vocab_size} tokens")
    return ids
