"""Figures and failures in words, the same on every part of the screen."""

from __future__ import annotations

from dspark_local.errors import DSparkError
from dspark_local.types import FinishReason, Stats

_ENDS = {
    FinishReason.STOP: "",
    FinishReason.LENGTH: "cut at the most tokens allowed (--max-tokens)",
    FinishReason.CONTEXT: "the context is full: ctrl+n starts a new chat",
    FinishReason.CANCELLED: "stopped",
}


def failure(error: Exception) -> str:
    """One line that says what went wrong."""
    if isinstance(error, DSparkError):
        return " ".join(str(error).split())
    return f"a bug of ours, please report it: {type(error).__name__}: {error}"


def summary(stats: Stats, reason: FinishReason) -> str:
    """What stands below an answer."""
    parts = [f"{count(stats.predicted_n, 'token')}", f"{stats.tokens_per_second:.0f} tok/s"]
    if stats.draft_n:
        parts.append(f"accepted length {stats.accepted_length:.2f}")
    return " · ".join(filter(None, [*parts, _ENDS[reason]]))


def count(n: int, noun: str) -> str:
    """`1 token`, `2 tokens`."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"
