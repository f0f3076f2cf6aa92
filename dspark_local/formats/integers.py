"""GBNF of the whole numbers between two bounds."""

from __future__ import annotations

_MOST_DIGITS = 16  # of a number without an upper bound: no more are exact in JavaScript


def between(low: int | None, high: int | None) -> str:
    """Alternatives for all integers from `low` to `high`, None for no bound, without leading zeros."""
    parts = []
    if low is None or low < 0:
        least = 1 if high is None or high >= 0 else -high
        parts += [f'"-" {part}' for part in _positive(least, None if low is None else -low)]
    if high is None or high >= 0:
        parts += _positive(max(0, low or 0), high)
    return " | ".join(parts)


def _positive(low: int, high: int | None) -> list[str]:
    """From low to high, both 0 or more; by number of digits."""
    if high is None:
        digits = len(str(low))
        longer = f"[1-9] [0-9]{{{digits},{max(digits, _MOST_DIGITS - 1)}}}"
        return [*_positive(low, 10**digits - 1), longer]
    found = []
    for digits in range(len(str(low)), len(str(high)) + 1):
        first = max(low, 10 ** (digits - 1) if digits > 1 else 0)
        last = min(high, 10**digits - 1)
        found += _same_length(str(first), str(last))
    return found


def _same_length(low: str, high: str) -> list[str]:
    """Digit strings of one length from low to high."""
    if not low:
        return [""]
    if low[0] == high[0]:
        return [f'"{low[0]}" {rest}'.rstrip() for rest in _same_length(low[1:], high[1:])]
    rest = len(low) - 1
    first, last = int(low[0]), int(high[0])
    found = []
    if low[1:].strip("0"):
        found += [f'"{first}" {tail}' for tail in _same_length(low[1:], "9" * rest)]
        first += 1
    ends = []
    if high[1:].strip("9"):
        ends = [f'"{last}" {tail}' for tail in _same_length("0" * rest, high[1:])]
        last -= 1
    if first <= last:
        any_rest = f" [0-9]{{{rest}}}" if rest else ""
        found.append(f"[{first}-{last}]{any_rest}")
    return found + ends
