"""Plots in text."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_WIDTH = 40


def bars(rows: Sequence[tuple[str, float, str]], *, most: float | None = None) -> str:
    """One line a row: label, a bar as long as its value, what it says. The longest is `most`, or the largest value."""
    full = most or max(value for _, value, _ in rows)
    labels = max(len(label) for label, _, _ in rows)
    return "\n".join(f"{label:>{labels}} {_bar(value / full)} {said}" for label, value, said in rows)


def _bar(share: float) -> str:
    halves = round(2 * _WIDTH * min(1.0, max(0.0, share)))
    full, half = divmod(halves, 2)
    return ("━" * full + "╸" * half).ljust(_WIDTH)
