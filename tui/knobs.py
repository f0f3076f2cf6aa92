"""The numbers of sampling that a chat lets its user set: one table for the form and for the commands."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from dspark_local.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dspark_local.types import SamplingParams

KNOBS: Mapping[str, type[int | float]] = {
    "temperature": float,
    "top_k": int,
    "top_p": float,
    "min_p": float,
    "seed": int,
}
"""Fields of SamplingParams, and what each is."""


def label(name: str) -> str:
    """As people write it."""
    return name.replace("_", "-")


def shown(sampling: SamplingParams, name: str) -> str:
    """What stands there now; nothing for a seed that is drawn."""
    value = getattr(sampling, name)
    return "" if value is None else f"{value}"


def turned(sampling: SamplingParams, written: Mapping[str, str]) -> SamplingParams:
    """With these knobs as they are written. Raises UsageError for what is no number, or out of range."""
    values = {name: _number(name, text.strip()) for name, text in written.items()}
    return replace(sampling, **values)  # type: ignore[arg-type]  # each by its own type


def _number(name: str, text: str) -> float | None:
    if name == "seed" and not text:
        return None
    try:
        return KNOBS[name](text)
    except ValueError:
        raise UsageError(f"{label(name)} must be a number, not “{text}”") from None
