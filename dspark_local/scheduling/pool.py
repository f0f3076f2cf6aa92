"""The drafts of all requests as one pool, sorted by survival, and what its first 0, 1, 2, … drafts are worth.

Every batch width is looked at: the curve is a staircase, so stopping at the first loss, as the paper's Algorithm 1
must, would miss what lies behind. Plain lists: for few requests arrays are slower, and for many hardly faster.
"""

from __future__ import annotations

import math
from itertools import accumulate
from operator import itemgetter
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Draft = tuple[float, int, int]  # a_k, k − 1, and the slot


class Choice(NamedTuple):
    """The first `rows` drafts of a pool of blocks of γ, and the `tokens` they promise.

    `cost` is what they take beyond a plain round, `gain` what is left of the tokens then; both in tokens.
    """

    gamma: int
    rows: int
    tokens: float
    cost: float

    @property
    def gain(self) -> float:
        """Tokens less cost."""
        return self.tokens - self.cost


def pooled(beliefs: Iterable[tuple[int, Sequence[float]]]) -> list[Draft]:
    """Survivals by slot in one pool; of equals the earlier position first."""
    pool = [(share, k, slot) for slot, survival in beliefs for k, share in enumerate(survival)]
    pool.sort(key=itemgetter(0), reverse=True)  # stable
    return pool


def worth(shares: Sequence[float], decode: Iterable[float], host: Iterable[float], price: float) -> list[float]:
    """Tokens less the price of their seconds, of the first 0, 1, 2, … drafts; the seconds are listed by that number."""
    return [t - price * (d + h) for t, d, h in zip(accumulate(shares, initial=0.0), decode, host, strict=False)]


def choose(
    pool: Sequence[Draft],
    decode: Sequence[float],
    host: Sequence[float],
    price: float,
    *,
    drafting: int,
    extra: Sequence[float],
    purse: float,
) -> tuple[Choice, bool]:
    """The best γ and number of drafts, at least one, of those that cost no more than the purse holds; of all, if none.

    So many requests are `drafting`, each of them γ rows that the host picks from, beside those that are verified.
    `extra` is what γ = 1, 2, … costs beyond verifying, and less a plain round. Second: whether the purse holds it.
    """
    best: Choice | None = None
    dear: Choice | None = None
    for gamma, spent in enumerate(extra, 1):
        shares = [share for share, k, _ in pool if k < gamma]
        beside = host[drafting * gamma :]
        values = worth(shares, decode, beside, price)
        values[0] = -math.inf
        top = max(values)
        if best and top - spent <= best.gain:
            continue
        count = values.index(top)
        cost = price * (decode[count] + beside[count])
        choice = Choice(gamma, count, top + cost, cost + spent)
        if choice.cost <= purse:
            best = choice
        elif dear is None or choice.gain > dear.gain:
            dear = choice
    found = best or dear
    assert found
    return found, best is not None
