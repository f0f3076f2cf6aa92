"""Checkpoints to GGUF: streamed tensor by tensor, written beside and renamed, loud about what does not fit."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from dspark_local.convert import dense, drafter
from dspark_local.convert.checkpoint import Checkpoint
from dspark_local.convert.quantise import parse
from dspark_local.convert.target import CheckpointTarget, GGUFTarget

if TYPE_CHECKING:
    from dspark_local.convert.writer import Progress

__all__ = ["convert_draft", "convert_target"]


def convert_target(src: Path, out: Path, *, type: str, progress: Progress | None = None) -> Path:  # noqa: A002 - the field's word
    """Convert the target in folder `src` to the file `out`; `type` is F32, F16, BF16, Q8_0 or Q4_0.

    `progress` hears (bytes written, bytes in all). Raises ConvertError, and then leaves no file.
    """
    return dense.convert(Checkpoint(Path(src)), Path(out), parse(type), progress)


def convert_draft(src: Path, target: Path, out: Path, *, type: str, progress: Progress | None = None) -> Path:  # noqa: A002 - the field's word
    """Convert the drafter in folder `src` as `convert_target` does; `target` is its target's folder, or a GGUF of it.

    A GGUF of the target must be F32, F16 or BF16 where the drafter brings an embedding or a head of its own.
    """
    target = Path(target)
    known = CheckpointTarget(Checkpoint(target)) if target.is_dir() else GGUFTarget(target)
    return drafter.convert(Checkpoint(Path(src)), known, Path(out), parse(type), progress)
