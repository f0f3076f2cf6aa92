"""What is taken from the logits of tokens that occurred before, and what the user adds: llama.cpp's first samplers."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from dspark_local.sampling.dry import repeats

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from dspark_local.sampling.dry import Breakers
    from dspark_local.sampling.truncation import Ids, Logits
    from dspark_local.types import SamplingParams

Floats = npt.NDArray[np.float32]

_MOST = 1e30  # nothing a user gives counts for more: 32 bits end at 3e38


@dataclass(frozen=True, slots=True)
class Row:
    """Logits [n] of the tokens `ids`, ascending; of all tokens where None."""

    logits: Logits
    ids: Ids | None = None

    def tokens(self, at: Ids) -> Ids:
        """Tokens at these indices."""
        return at if self.ids is None else self.ids[at]

    def find(self, tokens: Iterable[int]) -> tuple[Ids, npt.NDArray[np.bool_]]:
        """Where these tokens are, of those that are there; and which are."""
        wanted = np.fromiter(tokens, np.int64)
        if self.ids is None:
            return wanted, np.ones(wanted.size, np.bool_)
        at = np.minimum(np.searchsorted(self.ids, wanted), self.ids.size - 1)
        there = self.ids[at] == wanted
        return at[there], there


def penalised(row: Row, params: SamplingParams, recent: Sequence[int], breakers: Breakers) -> Row:
    """The row behind the tokens `recent`: bias, then penalties, then DRY, in 32 bits. A copy if anything changes."""
    counts = Counter(_window(recent, params.repeat_last_n)) if params.penalises else {}
    dry = repeats(_window(recent, params.dry_penalty_last_n), params, breakers) if params.dry_multiplier else {}
    if not (params.logit_bias or counts or dry):
        return row
    logits = row.logits.astype(np.float32, copy=True)
    if params.logit_bias:
        at, bias = _lookup(row, dict(params.logit_bias))
        logits[at] += bias
    if counts:
        at, times = _lookup(row, counts)
        held, repeat = logits[at], _bounded(max(1 / _MOST, params.repeat_penalty))
        held = np.where(held <= 0, held * repeat, held / repeat)
        logits[at] = held - (times * _bounded(params.frequency_penalty) + _bounded(params.presence_penalty))
    if dry:
        at, penalty = _lookup(row, dry)
        logits[at] -= penalty
    return Row(logits, row.ids)


def _window(recent: Sequence[int], n: int) -> Sequence[int]:
    return recent if n < 0 else recent[max(0, len(recent) - n) :]


def _lookup(row: Row, values: Mapping[int, float]) -> tuple[Ids, Floats]:
    at, there = row.find(values)
    return at, np.fromiter(map(_bounded, values.values()), np.float32)[there]


def _bounded(value: float) -> np.float32:
    """What 32 bits can reckon with, however often it is added; −inf stays."""
    return np.float32(value if value == -math.inf else min(max(value, -_MOST), _MOST))
