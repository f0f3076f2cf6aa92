"""What a checkpoint stores as numbers: read as floats, or as its own bits."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from dspark_local.convert.checkpoint import Checkpoint, Floats


@dataclass(frozen=True, slots=True)
class Plain:
    """A tensor: its shape, GGUF's name for the type of its bits ("" for none), a run of rows as floats or as bits."""

    shape: tuple[int, ...]
    dtype: str
    read: Callable[[slice], Floats]
    same: Callable[[slice], npt.NDArray[Any]]


def stored(checkpoint: Checkpoint, name: str) -> Plain:
    """A tensor of the checkpoint, under the checkpoint's name."""
    tensor = checkpoint.tensors[name]
    return Plain(tensor.shape, tensor.dtype, partial(checkpoint.read, name), partial(checkpoint.same, name))
