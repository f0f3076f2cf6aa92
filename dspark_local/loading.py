"""From a model's name or path to a running pair: find, check, fit, load."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dspark_local.errors import ModelNotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from dspark_local.runtime import Runtime

Progress = "Callable[[str, float], None]"


def load(
    model: str | Path,
    *,
    drafter: str | Path = "auto",
    gamma: int = 3,
    fixed_width: int | None = None,
    ctx_size: int | None = None,
    slots: int = 1,
    threads: int | None = None,
    gpu_layers: int = -1,
    progress: Callable[[str, float], None] | None = None,
) -> Runtime:
    """Load a target and its drafter."""
    raise ModelNotFoundError(f"not there yet: {model} {drafter} {gamma} {fixed_width} {ctx_size} {slots} {threads} {gpu_layers} {progress}")
