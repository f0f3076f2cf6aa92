"""The `auto` policy where some drafts are offered for nothing: each round takes whoever promises the most a second.

A round that takes an offer drafts nothing, so it costs the decode alone, and its drafts may be longer than any block.
What the other drafter would make of the same round is its own forecast, at its own cost.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import accumulate
from operator import mul
from typing import TYPE_CHECKING

from dspark_local.scheduling.policy import Plan
from dspark_local.scheduling.scheduler import Auto
from dspark_local.types import Why

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dspark_local.scheduling.policy import Request
    from dspark_local.types import Round


_MARGIN = 1.1  # by which an offer must promise more: what is drafted is also cut by confidence, which a forecast lacks


@dataclass(frozen=True, slots=True)
class _Round:
    """What a round is expected to commit, in how many seconds, and the rows that it verifies."""

    tokens: float
    seconds: float
    rows: int

    @property
    def rate(self) -> float:
        """Tokens per second."""
        return self.tokens / self.seconds


@dataclass(slots=True)
class Arbiter(Auto):
    """Auto for whoever has nothing better offered; ℓ of an offer is the one of the best rate."""

    _taken: dict[int, int] = field(default_factory=dict)  # ℓ by slot
    _asked: Sequence[Request] = ()
    _others: Plan = field(default_factory=Plan)

    def plan(self, requests: Sequence[Request]) -> Plan:
        """Who takes what is offered, who drafts, and how much."""
        self._asked, self._taken = requests, {}
        offers = {r.slot: r.offered[: r.limit] for r in requests if r.rounds and r.offered and r.limit}
        best = self._weigh(requests, offers) if offers else None
        if best is None:
            self._others = Auto.plan(self, requests)
            return self._others
        rest = self._without_takers(requests, self._taken)
        self._others = Auto.plan(self, rest) if any(r.limit for r in rest) else Plan()
        plain = len(requests) / self._seconds(requests, len(requests))
        return replace(self._others, takers=tuple(self._taken), why=Why.DRAFT, rate=best.rate, plain=plain)

    def admit(self, confidences: Sequence[Sequence[float]], drafted: Sequence[int]) -> list[int]:
        """What was settled for who takes an offer; ℓ as Auto has it for who drafted."""
        if not drafted:
            return []
        slots = [r.slot for r in self._asked if r.slot in self._taken or r.slot in self._others.slots]
        own = [i for i, slot in enumerate(slots) if slot not in self._taken]
        admitted = iter(Auto.admit(self, [confidences[i] for i in own], [drafted[i] for i in own]))
        return [self._taken[slot] if slot in self._taken else next(admitted) for slot in slots]

    def observe(self, rounds: Sequence[Round]) -> None:
        """Learn what the round cost; what became of offers is no news of the other drafter."""
        taken, asked = self._taken, self._asked
        if not taken or len(rounds) != len(asked):
            Auto.observe(self, rounds)
            return
        records = [_undrafted(r) if q.slot in taken else r for q, r in zip(asked, rounds, strict=True)]
        if len(taken) < len(asked):
            Auto.observe(self, records)
        else:
            self._learn_costs(asked, records, teaches=True)

    def _weigh(self, requests: Sequence[Request], offers: dict[int, tuple[float, ...]]) -> _Round | None:
        """The best round in which offers are taken, if it is better than one without; settles ℓ of each."""
        drafting = self._expected(requests)
        others = self._expected(self._without_takers(requests, offers))
        pool = [(share, slot) for slot, offer in offers.items() for share in accumulate(offer, mul)]
        pool.sort(key=lambda draft: draft[0], reverse=True)
        base = self._seconds(requests, others.rows)
        best, count, tokens = drafting, 0, others.tokens
        for n, (share, _) in enumerate(pool, 1):
            tokens += share
            rows = others.rows + n
            found = _Round(tokens, others.seconds + self._seconds(requests, rows) - base, rows)
            if found.rate > max(best.rate, _MARGIN * drafting.rate):
                best, count = found, n
        for _, slot in pool[:count]:
            self._taken[slot] = self._taken.get(slot, 0) + 1
        return best if count else None

    def _expected(self, requests: Sequence[Request]) -> _Round:
        """The round that Auto would choose; it changes nothing."""
        n = len(requests)
        if any(r.limit for r in requests) and not self._parking.still(requests):
            self._requests = requests
            self._foresee(requests)
            best = self._best(requests)
            if best.gain > 0:
                return _Round(best.tokens, best.tokens / best.rate, best.rows)
        return _Round(n, self._seconds(requests, n), n)

    def _seconds(self, requests: Sequence[Request], rows: int) -> float:
        """Seconds of a round that verifies so many rows and drafts nothing."""
        return self.cost.seconds(rows=self.fixed_rows or rows, depth=sum(r.depth for r in requests))

    @staticmethod
    def _without_takers(requests: Sequence[Request], takers: Mapping[int, object]) -> list[Request]:
        return [replace(r, limit=0) if r.slot in takers else r for r in requests]


def _undrafted(record: Round) -> Round:
    """Tokens and rows of a round that took an offer: they count, but say nothing of drafting."""
    return replace(record, draft=(), admitted=0, accepted=0, confidences=())
