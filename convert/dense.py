"""A target: the tables of its family applied to a checkpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dspark_local.convert.families import target_family
from dspark_local.convert.family import EMBEDDING, HEAD, LAST_NORM, hyperparameters
from dspark_local.convert.packed.schemes import scheme_of
from dspark_local.convert.plan import Tell, plan, table
from dspark_local.convert.quantise import Type, file_type
from dspark_local.convert.tokenizers.vocabulary import read_vocabulary
from dspark_local.convert.writer import values, write

if TYPE_CHECKING:
    from pathlib import Path

    from gguf import GGUFWriter

    from dspark_local.convert.checkpoint import Checkpoint
    from dspark_local.convert.writer import Progress


def convert(
    checkpoint: Checkpoint,
    out: Path,
    kind: Type,
    progress: Progress | None,
    *,
    outline: bool = False,
    tell: Tell = lambda _name, _kind, _error: None,
) -> Path:
    """Write the target, or an outline of it (see `write`); its head only where it is not the embedding.

    Raises ConvertError.
    """
    family = target_family(checkpoint)
    config = family.config(checkpoint)
    family.check(config)
    tied = config.flag("tie_word_embeddings", default=family.tied)
    # exports of tied models sometimes repeat the embedding as a head
    ignored = family.unused(config) | (frozenset({"lm_head.weight"}) if tied else frozenset[str]())
    root = (EMBEDDING, *(() if tied else (HEAD,)), *family.root, LAST_NORM)
    rows = table(family, config, root, family.sizes(config, 0))
    tensors = plan(checkpoint, family, config, rows, kind, ignored=ignored, tell=tell)
    tensors += [values(name, array) for name, array in family.computed(config).items()]
    vocabulary = read_vocabulary(checkpoint, config.count("vocab_size"), family.tokenizer)

    def keys(writer: GGUFWriter) -> None:
        writer.add_name(checkpoint.name)
        writer.add_file_type(file_type(kind, (t.kind for t in tensors)))
        hyperparameters(writer, config)
        family.keys(writer, config)
        vocabulary.write(writer)

    return write(out, family.arch, keys, tensors, progress, outline=outline)


def exact(checkpoint: Checkpoint) -> Type:
    """The type that holds the checkpoint's matrices as they are."""
    packed = scheme_of(checkpoint)
    ends = tuple(f".{part}" for part in packed.parts if part != "weight") if packed else ()
    matrices = {n: t.dtype for n, t in checkpoint.tensors.items() if len(t.shape) > 1 and not n.endswith(ends)}
    found = {dtype for dtype in matrices.values() if dtype in ("F16", "BF16", "F32", "F64")}
    return next((kind for kind in (Type.F16, Type.BF16) if found == {kind.value}), Type.F32)
