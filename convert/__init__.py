"""Checkpoints to GGUF: streamed tensor by tensor, written beside and renamed, loud about what does not fit."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from dspark_local.convert import dense, drafter, repair, trim
from dspark_local.convert.checkpoint import Checkpoint, published_name
from dspark_local.convert.families.deepseek import STAGES
from dspark_local.convert.packed.schemes import scheme_of
from dspark_local.convert.quantise import parse
from dspark_local.convert.target import CheckpointTarget, GGUFTarget

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from dspark_local.convert.plan import Tell
    from dspark_local.convert.target import Target
    from dspark_local.convert.writer import Progress

__all__ = [
    "STAGES",
    "convert_draft",
    "convert_target",
    "exact_type",
    "keeps_codes",
    "outline_target",
    "published_name",
    "repair_draft",
    "trim_draft",
]


def convert_target(
    src: Path,
    out: Path,
    *,
    type: str,  # noqa: A002 - the field's word
    progress: Progress | None = None,
    tell: Tell = lambda _name, _kind, _error: None,
) -> Path:
    """Convert the target in folder `src` to the file `out`; `type` is F32, F16, BF16, Q8_0 or Q4_0.

    Weights that are 4-bit codes already are kept as they are, and `type` is that of the others; `tell` hears of each
    (name, type, largest error in steps of its codes). `progress` hears (bytes written, bytes in all).
    Raises ConvertError, and then leaves no file.
    """
    return dense.convert(Checkpoint(Path(src)), Path(out), parse(type), progress, tell=tell)


def keeps_codes(src: Path) -> bool:
    """Whether the checkpoint in folder `src` holds 4-bit codes, which are kept. Raises ConvertError."""
    return scheme_of(Checkpoint(Path(src))) is not None


def exact_type(src: Path) -> str:
    """F16, BF16 or F32: what holds the matrices of the checkpoint in folder `src` as they are. Raises ConvertError."""
    return dense.exact(Checkpoint(Path(src)))


def outline_target(src: Path, out: Path, *, type: str) -> Path:  # noqa: A002 - as above
    """Write the header of what `convert_target` would write, and a hole for the data; takes no time and no room."""
    return dense.convert(Checkpoint(Path(src)), Path(out), parse(type), None, outline=True)


def convert_draft(
    src: Path,
    target: Path,
    out: Path,
    *,
    type: str,  # noqa: A002 - the field's word
    progress: Progress | None = None,
    tell: Tell = lambda _name, _kind, _error: None,
) -> Path:
    """Convert the drafter in folder `src` as `convert_target` does; `target` is its target's folder, or a GGUF of it.

    A GGUF of the target must be F32, F16 or BF16 where the drafter brings an embedding or a head of its own.
    """
    return drafter.convert(Checkpoint(Path(src)), _target(target), Path(out), parse(type), progress, tell=tell)


def repair_draft(draft: Path, target: Path, out: Path, *, progress: Progress | None = None) -> Path | None:
    """Mend the drafter's file `draft` into `out`, which may be the same file; None if it needs no mending.

    `target` is a folder or a GGUF of any type. Raises ModelError, and then changes nothing.
    """
    return repair.repair(Path(draft), _target(target), Path(out), progress)


def trim_draft(
    draft: Path,
    target: Path,
    out: Path,
    *,
    tokens: int,
    counts: npt.NDArray[np.int64] | None = None,
    progress: Progress | None = None,
) -> Path:
    """Write the drafter's file `draft` with only `tokens` tokens to draft, the likeliest, as `trim.trim` does."""
    return trim.trim(Path(draft), Path(target), Path(out), tokens=tokens, counts=counts, progress=progress)


def _target(path: Path) -> Target:
    path = Path(path)
    return CheckpointTarget(Checkpoint(path)) if path.is_dir() else GGUFTarget(path)
