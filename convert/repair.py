"""Drafter files whose head llama.cpp would tie to their embedding, though their target's is not tied.

llama.cpp's own converter writes a drafter's embedding and leaves its head out. Both are the target's; so the mended
file has neither, and llama.cpp takes both from the target. A drafter with an embedding that is not the target's had a
head of its own, which is lost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dspark_local.convert.checkpoint import slabs
from dspark_local.convert.copying import copy_keys, copy_tensor
from dspark_local.convert.target import EMBEDDING, HEAD
from dspark_local.convert.writer import write
from dspark_local.errors import ConvertError
from dspark_local.formats.dflash import read_draft_spec
from dspark_local.formats.gguf import GGUF

if TYPE_CHECKING:
    from pathlib import Path

    from gguf import GGUFWriter

    from dspark_local.convert.checkpoint import Floats
    from dspark_local.convert.target import Target
    from dspark_local.convert.writer import Progress

# How alike a row and the target's must be, as a cosine; 4-bit rounding leaves above 0.99, other rows are near 0.
_SAME = 0.97
_SILENT = 1e-6  # rows of padding tokens, of which no direction can be told


def repair(draft: Path, target: Target, out: Path, progress: Progress | None) -> Path | None:
    """Mend the drafter's file `draft` into `out`, which may be the same; None if nothing is wrong.

    Raises ModelFormatError for a file that is no drafter, ConvertError for one that cannot be mended.
    """
    gguf = GGUF.open(draft)
    spec = read_draft_spec(gguf)
    if not spec.owns_embedding or spec.owns_head or target.tied:
        return None
    if (spec.vocab_size, spec.n_embd) != (target.vocab_size, target.hidden_size):
        raise ConvertError(f"{draft.name} is no drafter of {target.name}: its embedding is of another size")
    for rows in slabs((spec.vocab_size, spec.n_embd)):
        if not _alike(gguf.rows(EMBEDDING, rows), target.read(EMBEDDING, rows)):
            raise ConvertError(
                f"{draft.name} has an embedding of its own, so that the head it lacks was its own too; convert its "
                "checkpoint again with `dspark-local convert draft`"
            )
    tensors = [copy_tensor(gguf, name) for name in gguf.tensors if name not in (EMBEDDING, HEAD)]

    def keys(writer: GGUFWriter) -> None:
        copy_keys(gguf, writer)

    return write(out, gguf.arch, keys, tensors, progress)


def _alike(ours: Floats, theirs: Floats) -> bool:
    product = (ours.astype(np.float64) * theirs).sum(-1)
    norms = np.linalg.norm(ours.astype(np.float64), axis=-1) * np.linalg.norm(theirs.astype(np.float64), axis=-1)
    return bool(np.all((product >= _SAME * norms) | (norms < _SILENT)))
