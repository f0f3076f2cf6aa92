"""What a user may choose of a training run."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path  # noqa: TC003 - a field's type
from typing import TYPE_CHECKING

from dspark_local.training.answers import Asking

if TYPE_CHECKING:
    from dspark_local.training.schedule import Schedule
    from dspark_local.training.states import Kept

GIB = 1 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What the user chose; None of a drafter's shape: what its target's depth suggests.

    `kept` is the precision of the states, and of the network where the device is quick at it; `cache` the bytes that
    the states may take; `finetune` a drafter's GGUF or checkpoint to start from; `name` under which the pair is
    registered; `file` the GGUF to write, of `type` (Q8_0, or F16 where rows do not divide into blocks of 32).
    """

    schedule: Schedule
    asking: Asking = field(default_factory=Asking)
    slots: int = 16
    limit: int | None = None
    depth: int | None = None
    layers: tuple[int, ...] | None = None
    block_size: int = 7
    rank: int | None = None
    mask: int | None = None
    finetune: Path | None = None
    cache: int = 8 * GIB
    kept: Kept = "bf16"
    device: str = "cpu"
    threads: int | None = None
    gpu_layers: int = -1
    type: str | None = None
    name: str | None = None
    file: Path | None = None
