"""The `auto` policy: γ before drafting and widths after it, for the most tokens per second in the long run.

With λ what a second is worth in tokens, a round is worth its tokens − λ·its seconds; survival tells the tokens, the
cost table the seconds. The drafts of all requests form one pool, sorted by survival and scanned over every batch width:
the curve is a staircase, so stopping at the first loss, as the paper's Algorithm 1 must, would miss what lies behind.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

import numpy as np

from dspark_local.scheduling.calibration import Calibration
from dspark_local.scheduling.forecast import Forecast, History
from dspark_local.scheduling.pace import Pace
from dspark_local.scheduling.parking import LATE, Parking
from dspark_local.scheduling.policy import Plan, Request
from dspark_local.types import Why

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dspark_local.scheduling.cost import CostTable
    from dspark_local.scheduling.curve import Seconds
    from dspark_local.types import Round

_SEASON, _THIN = 200, 4  # rounds that all teach costs and calibration; later every so many do
_PAYS = 1.01  # a running rate, against plain decoding, from which on every new text is probed
_HOPE = 0.92  # conditional acceptance of text that drafts well: if that would not pay, no probe is worth its time
_LEAST = 1e-6  # survival below which nothing is divided
_STAKE, _SLACK = 1.8, 0.003  # tokens that a text may fall behind plain decoding: at once, and for each that it makes
_SHARE = 0.0185  # or such a share of a long text
_FAITH, _GAIN = 10.0, 1.25  # and more of them for each unit that the running rate is above such a gain
_LEARNERS = 4  # blocks of a round that calibration and forecast learn from


@dataclass(slots=True)
class _Slot:
    """What a slot's blocks showed, and what is believed of its next one."""

    history: History = field(default_factory=History)
    features: list[float] = field(default_factory=list)
    belief: list[float] = field(default_factory=list)
    tokens: int = 0  # of the text so far
    ahead: float = 0.0  # how many of them plain decoding would not have made by now

    @property
    def purse(self) -> float:
        """Tokens that the text may still fall behind."""
        return max(_STAKE + _SLACK * self.tokens, _SHARE * self.tokens) + self.ahead


@dataclass(frozen=True, slots=True)
class _Best:
    """The best plan that drafts: who would, how much better than plain (tokens), and predicted tokens per second.

    `tokens` are all that it is expected to commit, `rows` all that it would verify.
    """

    gamma: int
    slots: tuple[int, ...]
    gain: float
    rate: float
    plain: float
    tokens: float
    rows: int


@dataclass(slots=True)
class Auto:
    """Drafts where it pays, parks where it does not, and looks again from time to time.

    `cost` must cover as many slots as requests come at once, and γ; both it and `calibration` learn from every round.
    `fixed_rows` is the rows of every decode in fixed-width mode, whose cost no admission changes.
    """

    cost: CostTable
    gamma: int = 7
    calibration: Calibration | None = None
    forecast: Forecast | None = None
    fixed_rows: int | None = None
    _slots: dict[int, _Slot] = field(default_factory=dict)
    _pace: Pace = field(default_factory=Pace)
    _parking: Parking = field(default_factory=Parking)
    _rounds: int = 0
    _requests: Sequence[Request] = ()
    _plan: Plan = field(default_factory=Plan)
    _survival: list[list[float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.calibration is None:
            self.calibration = Calibration(self.gamma)
        if self.forecast is None:
            self.forecast = Forecast(self.gamma)

    def plan(self, requests: Sequence[Request]) -> Plan:
        """Who drafts in this round, and how much."""
        if self._parking.rests(requests):
            return self._rest(requests)
        self._requests = requests
        self._survival = []
        self._foresee(requests)
        self._plan = self._choose(requests) if any(r.limit for r in requests) else Plan(why=Why.LIMIT)
        return self._plan

    def admit(self, confidences: Sequence[Sequence[float]], drafted: Sequence[int]) -> list[int]:
        """ℓ for each sequence that drafts. Raises BackendError for a confidence that is not a number."""
        if not drafted or not max(drafted):
            return [0] * len(drafted)
        known = {r.slot: r for r in self._requests}
        drafting = [known[slot] for slot in self._plan.slots]
        self._survival = survival = self._believed(drafting, confidences, drafted)
        pool = [(share, i) for i, (a, r) in enumerate(zip(survival, drafting, strict=True)) for share in a[: r.limit]]
        pool.sort(key=lambda draft: draft[0], reverse=True)  # stable: of equals the earlier position first
        n, price = len(self._requests), self._price()
        decode = self._decode(n, n + len(pool)).tolist()
        host = self.cost.host.seconds[n - 1 + sum(drafted) :].tolist()
        tokens = accumulate((share for share, _ in pool), initial=0.0)
        worth = [t - price * (d + h) for t, d, h in zip(tokens, decode, host, strict=False)]
        admitted = [0] * len(drafted)
        for _, i in pool[: worth.index(max(worth))]:
            admitted[i] += 1
        return admitted

    def observe(self, rounds: Sequence[Round]) -> None:
        """Learn what the round cost and what was accepted."""
        requests, plan = self._requests, self._plan
        if len(requests) != len(rounds) or not rounds:
            return  # a round that was not planned here
        self._requests = ()
        self._rounds += 1
        teaches = self._rounds < _SEASON or self._rounds % _THIN == 0
        self._learn_costs(requests, rounds, teaches=teaches)
        drafting = [(q, r) for q, r in zip(requests, rounds, strict=True) if q.slot in plan.slots]
        for n, ((request, record), survival) in enumerate(zip(drafting, self._survival, strict=False)):
            self._learn(request, record, survival[: record.drafted], teach=n < _LEARNERS)
        if teaches:
            self._calibrate([(q, r) for q, r in drafting if r.confidences and r.admitted])
        for r in requests:
            if r.slot not in plan.slots:
                self._slots[r.slot].history.wait()

    # Planning

    def _rest(self, requests: Sequence[Request]) -> Plan:
        """Park once more. Reckoning took 0.6 ms a round: a decode leaves nothing of ours in the processor's caches."""
        self._requests = ()
        self._pace.add(1, 1)
        for r in requests:
            slot = self._slots[r.slot]
            slot.tokens += 1
            slot.history.wait()
        return self._plan

    def _foresee(self, requests: Sequence[Request]) -> None:
        """Believe something of every slot's next block."""
        assert self.forecast is not None
        slots = [self._slots.setdefault(r.slot, _Slot()) for r in requests]
        for r, slot in zip(requests, slots, strict=True):
            if r.rounds == 0:
                slot.history.renew()
                slot.tokens, slot.ahead = 0, 0.0
            slot.features = slot.history.features(self.forecast.rate)
        for slot, belief in zip(slots, self.forecast.survival([s.features for s in slots]), strict=True):
            slot.belief = belief

    def _choose(self, requests: Sequence[Request]) -> Plan:
        best = self._best(requests)
        if self._plan.why is Why.PROBE:
            found = any(slot in best.slots for slot in self._plan.slots) and best.gain > 0
            self._parking.judge(found=found, paid=self._pace.gain > _PAYS)
        if best.gain <= 0:
            probed = self._probe(requests, best)
            if probed is None:
                self._parking.rest(requests, self._rounds_of_rest(requests))
                return Plan(0, (), Why.PARK, best.rate, best.plain)
            self._parking.drafts()
            return Plan(min(best.gamma, probed.limit), (probed.slot,), Why.PROBE, best.rate, best.plain)
        self._parking.drafts()
        again = {r.slot for r in requests if r.limit and (r.rounds == 0 or self._slots[r.slot].history.silent > LATE)}
        slots = tuple(r.slot for r in requests if r.slot in best.slots or r.slot in again)
        return Plan(best.gamma, slots, Why.DRAFT, best.rate, best.plain)

    def _rounds_of_rest(self, requests: Sequence[Request]) -> int:
        """0 if drafting would pay again as soon as what is known has aged; else as many as are left to a probe."""
        assert self.forecast is not None
        (usual,) = self.forecast.survival([History(first=False).features(self.forecast.rate)])
        if self._best(requests, dict.fromkeys((r.slot for r in requests), usual)).gain > 0:
            return 0
        return self._parking.left

    def _best(self, requests: Sequence[Request], beliefs: Mapping[int, Sequence[float]] | None = None) -> _Best:
        """The best γ and who would be verified at it, of every γ and every batch width; by other beliefs if given."""
        believed = beliefs or {r.slot: self._slots[r.slot].belief for r in requests}
        n, most = len(requests), min(self.gamma, max(r.limit for r in requests))
        pool = [(share, k, r.slot) for r in requests for k, share in enumerate(believed[r.slot][: min(most, r.limit)])]
        pool.sort(key=lambda draft: draft[0], reverse=True)  # stable: of equals the earlier position first
        price = self._price()
        decode = (price * self._decode(n + 1, n + len(pool), hopeful=True)).tolist()
        host = (price * self.cost.host.seconds).tolist()
        draft = (price * self.cost.draft.hopeful).tolist()
        drafting = sum(r.limit > 0 for r in requests)
        catch_up = price * self._catch_up(requests)
        plain = price * float(self._decode(n, n)[0]) + host[n - 1]
        faith = _FAITH * max(0.0, self._pace.gain - _GAIN)
        purse = plain / n * sum(self._slots[r.slot].purse + faith for r in requests)
        choices: list[tuple[float, int, int, float]] = []  # gain, γ, drafts verified, what it costs beyond plain
        for gamma in range(1, most + 1):
            drafted, tokens, rows = drafting * gamma, 0.0, 0
            top, count, cost = -math.inf, 0, 0.0
            for share, k, _ in pool:  # one by one: for few requests, arrays are slower
                if k < gamma:
                    tokens += share
                    spent = decode[rows] + host[n + drafted + rows]
                    rows += 1
                    if tokens - spent > top:
                        top, count, cost = tokens - spent, rows, spent
            extra = draft[drafted - 1] + catch_up - plain
            choices.append((top - extra, gamma, count, cost + extra))
        # should all its drafts fail, a round must not leave the texts too far behind
        affordable = [choice for choice in choices if choice[3] <= purse]
        gain, at, count, _ = max(affordable or choices, key=lambda choice: (choice[0], -choice[1]))
        winners = [(share, slot) for share, k, slot in pool if k < at][:count]
        made = sum(share for share, _ in winners)
        rate = price * (n + made) / (made - gain + plain)
        if not affordable:
            at, gain = 0, -math.inf
        return _Best(at, tuple(slot for _, slot in winners), gain, rate, price * n / plain, n + made, n + len(winners))

    def _probe(self, requests: Sequence[Request], best: _Best) -> Request | None:
        """Who should look whether drafting pays again, if it is time: a new text, or who was silent longest."""
        able = self._parking.candidates(requests)
        if not able or not best.gamma:
            return None
        probing = max(able, key=lambda r: self._slots[r.slot].history.silent)
        return probing if self._hope(requests, probing) else None

    def _hope(self, requests: Sequence[Request], probing: Request) -> bool:
        """Whether a text that drafts well would pay in that slot, the others decoding plainly."""
        n, most = len(requests), min(self.gamma, probing.limit)
        drafts = np.arange(1, most + 1)
        decode = self._decode(n, n + most, hopeful=True)
        seconds = decode[1:] - decode[0] + self.cost.draft.hopeful[:most] + self._catch_up([probing])
        return bool(((_HOPE**drafts).cumsum() > self._price() * seconds).any())

    # Costs

    def _price(self) -> float:
        """λ: tokens that a second is worth. The running rate, in plain decodes so that it keeps pace with the table."""
        n = len(self._requests)
        plain = float(self._decode(n, n)[0] + self.cost.host.seconds[n - 1])
        return max(1.0, self._pace.gain) * n / plain

    def _decode(self, least: int, most: int, *, hopeful: bool = False) -> Seconds:
        """Seconds of a target decode of least … most rows."""
        curve = self.cost.at(sum(r.depth for r in self._requests))
        if self.fixed_rows is not None:
            return np.full(most - least + 1, curve(self.fixed_rows))
        assert most <= curve.seconds.size, "the cost table is too small for so many requests"
        return (curve.hopeful if hopeful else curve.seconds)[least - 1 : most]

    def _catch_up(self, requests: Sequence[Request]) -> float:
        """Seconds of injecting what a drafting round leaves behind.

        A longer backlog is due once, whenever drafting resumes, and is no reason to put that off.
        """
        return self.cost.inject(sum(min(r.pending, self.gamma + 1) for r in requests))

    # Learning

    def _believed(
        self, drafting: Sequence[Request], confidences: Sequence[Sequence[float]], drafted: Sequence[int]
    ) -> list[list[float]]:
        """Survival of each drafted block: by confidence, or as predicted where the drafter has none."""
        assert self.calibration is not None
        return [
            self.calibration.survival(known[:n], r.temperature) if known else self._slots[r.slot].belief[:n]
            for r, known, n in zip(drafting, confidences, drafted, strict=True)
        ]

    def _learn_costs(self, requests: Sequence[Request], rounds: Sequence[Round], *, teaches: bool) -> None:
        times, n = rounds[0].times, len(rounds)
        rows = self.fixed_rows or sum(r.width for r in rounds)
        drafted = sum(r.drafted for r in rounds)
        pending = sum(q.pending for q, r in zip(requests, rounds, strict=True) if r.drafted)
        depth = sum(q.depth for q in requests)
        if teaches:
            self.cost.learn(times, rows=rows, drafted=drafted, pending=pending, depth=depth)
        # by the table, not by the clock: one slow round says nothing of what rounds are worth
        usual = min(pending, n * (self.gamma + 1))
        seconds = self.cost.seconds(rows=rows, drafted=drafted, pending=usual, depth=depth)
        plain = self.cost.seconds(rows=self.fixed_rows or n, depth=depth)
        self._pace.add(sum(len(r.tokens) for r in rounds) / n, seconds / plain)
        for q, r in zip(requests, rounds, strict=True):
            slot = self._slots[q.slot]
            slot.tokens += len(r.tokens)
            slot.ahead += len(r.tokens) - seconds / plain

    def _learn(self, request: Request, record: Round, survival: list[float], *, teach: bool) -> None:
        assert self.forecast is not None
        shares = _conditional(survival) if record.confidences else []
        slot = self._slots[request.slot]
        if teach:
            self.forecast.learn(slot.features, shares, record.admitted, record.accepted)
        slot.history.add(shares, record.admitted, record.accepted)

    def _calibrate(self, verified: list[tuple[Request, Round]]) -> None:
        assert self.calibration is not None
        for request, record in verified[:_LEARNERS]:
            self.calibration.observe(record.confidences, record.admitted, record.accepted, request.temperature)


def _conditional(survival: Sequence[float]) -> list[float]:
    """c_k of a_k."""
    return [a / max(before, _LEAST) for before, a in pairwise([1.0, *survival])]
