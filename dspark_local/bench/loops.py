"""Text that goes round in circles: it drafts well, and proves and teaches nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_NGRAM = 8
_SHARE = 0.1


def loops(tokens: Sequence[int]) -> bool:
    """Whether a tenth of the 8-grams, or more, occurred before."""
    grams = [tuple(tokens[i : i + _NGRAM]) for i in range(len(tokens) - _NGRAM + 1)]
    return bool(grams) and 1 - len(set(grams)) / len(grams) >= _SHARE
