"""DRY: tokens that would go on repeating what stands in the text, and how much each is to lose.

After llama.cpp's `llama_sampler_dry` and koboldcpp's pull request 982, from which it came.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dspark_local.types import SamplingParams

Breakers = Mapping[int, tuple[tuple[int, ...], ...]]
"""Strings over which no repetition reaches: their first token → what may follow it to complete one."""

_LONGEST_STRING, _LONGEST_TAIL = 40, 20
_LOG_MAX = 88.7228391  # of a 32-bit float
_NO_GROWTH = 1.000001  # a base up to here is 1


def find_breakers(
    strings: Sequence[str], pieces: Sequence[bytes], encode: Callable[[str], list[int]]
) -> dict[int, tuple[tuple[int, ...], ...]]:
    """Breakers for these strings in a vocabulary whose tokens spell `pieces`; `encode` makes tokens of a text.

    A token that holds a string breaks alone; one that ends with its beginning breaks with the tokens of the rest.
    """
    found: dict[int, list[tuple[int, ...]]] = {}
    for text in strings:
        string = text.encode()[:_LONGEST_STRING]
        tails: dict[int, tuple[int, ...]] = {}
        for token, piece in enumerate(pieces):
            if string[:1] not in piece:
                continue
            if string in piece:
                found.setdefault(token, []).append(())
                continue
            for n in range(1, len(string)):
                if piece.endswith(string[:n]):
                    if n not in tails:
                        rest = string[n:].decode("utf-8", "replace")
                        tails[n] = tuple(encode(rest)[:_LONGEST_TAIL])
                    found.setdefault(token, []).append(tails[n])
    return {token: tuple(dict.fromkeys(tails)) for token, tails in found.items()}


def repeats(window: Sequence[int], params: SamplingParams, breakers: Breakers) -> dict[int, float]:
    """Penalty of each token that would prolong a repetition of at least the allowed length.

    multiplier · base^(length − allowed), length that of the longest suffix of `window` that stood before that token.
    """
    allowed, base = params.dry_allowed_length, params.dry_base
    limit = _limit(window, breakers)
    if len(window) <= allowed or limit < allowed:
        return {}
    most = math.floor(_LOG_MAX / math.log(base)) if base > _NO_GROWTH else 0  # exponent that 32 bits hold
    tokens = np.asarray(window[::-1], np.int64)  # the latest first
    shifts = np.arange(1, tokens.size)
    lengths = np.zeros(shifts.size, np.int64)
    alive = np.arange(shifts.size)
    for n in range(min(limit, allowed + most)):  # how many of the latest tokens also stand `shift` earlier
        alive = alive[shifts[alive] + n < tokens.size]
        alive = alive[tokens[shifts[alive] + n] == tokens[n]]
        if not alive.size:
            break
        lengths[alive] = n + 1
    longest: dict[int, int] = {}
    for at in np.flatnonzero(lengths >= allowed).tolist():
        token = int(tokens[at])  # what came next there
        if () not in breakers.get(token, ()):
            longest[token] = max(longest.get(token, 0), int(lengths[at]))
    return {token: params.dry_multiplier * base ** (n - allowed) for token, n in longest.items()}


def _limit(window: Sequence[int], breakers: Breakers) -> int:
    """Tokens at the end of the window behind the last breaker in it."""
    size = len(window)
    for i in range(size):  # i tokens from the end
        tails = breakers.get(window[size - 1 - i])
        if tails is None:
            continue
        after = tuple(window[size - i :])
        fitting = [len(tail) for tail in tails if tail == after[: len(tail)]]
        if fitting:
            return i - max(fitting)
    return size
