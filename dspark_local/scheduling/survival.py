"""What is believed of a slot's next block before it is drafted: survival by position."""

from __future__ import annotations

from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_RATE = 0.05  # weight of one block
_FRESH, _SETTLE = 0.3, 0.3  # weight of the first block of a text or after a silence, and how fast a text settles it
_SILENCE = 8  # rounds without a draft after which a block weighs as that of a new text
_DRIFT = 0.06  # how fast positions that were not drafted come to look like those that were
_START = 0.75  # conditional acceptance of a drafter that nothing is known of
_LEAST = 1e-4  # no belief is so low that it could not recover


def prior(gamma: int) -> list[float]:
    """Survival [γ] of a drafter that nothing is known of."""
    return [_START**k for k in range(1, gamma + 1)]


def weight(rounds: int, silent: int) -> float:
    """Of a block: more when its text is new, or was not drafted for long, because belief is then of something else."""
    return max(_RATE, _FRESH / (1 + _SETTLE * rounds), min(_FRESH, _FRESH * silent / _SILENCE))


def evidence(survival: Sequence[float], admitted: int, accepted: int) -> list[float]:
    """Survival by position as one block showed it: what happened where it was verified, `survival` behind.

    Behind a rejected draft all is 0; behind the last admitted one, if it was accepted, `survival` goes on from there.
    """
    if not admitted:
        return list(survival)
    if accepted < admitted:
        return [1.0] * accepted + [0.0] * (len(survival) - accepted)
    reached = max(survival[admitted - 1], _LEAST)
    return [1.0] * admitted + [min(1.0, a / reached) for a in survival[admitted:]]


def updated(belief: Sequence[float], said: Sequence[float], seen: Sequence[float], weight: float) -> list[float]:
    """Belief [γ] moved by `weight` towards a block of g drafts, 0 < g ≤ γ: half what was said, half what was seen.

    Behind g the conditional survival stays, but for a slow drift towards the mean of those before: a longer block that
    was never tried must not look hopeless for ever. Survival never rises with position. Without a confidence, `said` is
    the belief itself.
    """
    g = len(said)
    moved = [s + weight * (0.5 * (a + x) - s) for s, a, x in zip(belief, said, seen, strict=False)]
    reached = max(moved[-1], _LEAST)
    usual = reached ** (1 / g)
    for before, s in pairwise(belief[g - 1 :]):
        share = s / before
        reached *= share + _DRIFT * (usual - share)
        moved.append(reached)
    return list(accumulate((min(1.0, max(_LEAST, s)) for s in moved), min))
