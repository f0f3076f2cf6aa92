"""Figures and failures in words, the same on every part of the screen."""

from __future__ import annotations

from dspark_local.errors import DSparkError
from dspark_local.types import FinishReason, Round, Stats, Why

_ENDS = {
    FinishReason.STOP: "",
    FinishReason.LENGTH: "cut at the most tokens allowed (--max-tokens)",
    FinishReason.CONTEXT: "the context is full: ctrl+n starts a new chat",
    FinishReason.CANCELLED: "stopped",
    FinishReason.GRAMMAR: "broken off: the grammar allows no token here",
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


def pace(record: Round) -> str:
    """Why the last round drafted as it did, and what was expected of it."""
    share = f"{record.rate / record.plain:.2f} ×" if record.plain else ""
    if record.why is Why.PARK:
        return f"parked: plain decoding is faster here ({share})"
    if record.why is Why.PROBE:
        return "parked, looking whether drafting pays again"
    if record.why is Why.DRAFT and record.drafted:
        expected = f", {share} plain expected" if share else ""
        return f"drafted {record.drafted}, verified {record.admitted}{expected}"
    return ""


def count(n: int, noun: str) -> str:
    """`1 token`, `2 tokens`."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"
