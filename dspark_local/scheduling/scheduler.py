"""The `auto` policy: γ before drafting and widths after it, for the most tokens per second in the long run.

With λ what a second is worth in tokens, a round is worth its tokens − λ·its seconds; survival tells the tokens, the
cost table the seconds. The drafts of all requests form one pool, sorted by survival and scanned over every batch width:
the curve is a staircase, so stopping at the first loss, as the paper's Algorithm 1 must, would miss what lies behind.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import accumulate
from operator import mul
from typing import TYPE_CHECKING

from dspark_local.scheduling.calibration import Calibration
from dspark_local.scheduling.forecast import Forecast, History
from dspark_local.scheduling.pace import Pace
from dspark_local.scheduling.parking import LATE, Parking
from dspark_local.scheduling.policy import Plan, Request
from dspark_local.scheduling.pool import choose, pooled, worth
from dspark_local.scheduling.purse import faith
from dspark_local.scheduling.texts import Texts
from dspark_local.types import Why

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dspark_local.scheduling.cost import CostTable
    from dspark_local.types import Round

_SEASON, _THIN = 200, 4  # rounds that all teach costs; later every so many do
_PAYS = 1.01  # a running rate, against plain decoding, from which on every new text is probed
_TRUSTED = 1.05  # and one from which on a backlog is worth its injection
_A_ROUND = 2  # tokens, where drafting pays
_HOPE = 0.92  # conditional acceptance of text that drafts well: if that would not pay, no probe is worth its time
_LEARNERS = 4  # blocks of a round that calibration and forecast learn from


@dataclass(frozen=True, slots=True)
class _Best:
    """The best plan that drafts: who would, how much better than plain (tokens), and predicted tokens per second.

    `tokens` are all that it is expected to commit, `rows` all that it would verify.
    """

    gamma: int
    slots: frozenset[int]
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
    _texts: Texts = field(default_factory=Texts)
    _pace: Pace = field(default_factory=Pace)
    _parking: Parking = field(default_factory=Parking)
    _rounds: int = 0
    _requests: Sequence[Request] = ()
    _depth: int = 0  # tokens in the caches of all of them
    _plan: Plan = field(default_factory=Plan)
    _shares: list[list[float]] = field(default_factory=list)  # of the blocks drafted, by calibrated confidence

    def __post_init__(self) -> None:
        if self.calibration is None:
            self.calibration = Calibration(self.gamma)
        if self.forecast is None:
            self.forecast = Forecast(self.gamma)

    def plan(self, requests: Sequence[Request]) -> Plan:
        """Who drafts in this round, and how much."""
        if self._parking.rests(requests):
            return self._rest(requests)
        self._shares = []
        self._foresee(requests)
        self._plan = self._choose(requests) if any(r.limit for r in requests) else Plan(why=Why.LIMIT)
        return self._plan

    def admit(self, confidences: Sequence[Sequence[float]], drafted: Sequence[int]) -> list[int]:
        """ℓ for each sequence that drafts. Raises BackendError for a confidence that is not a number."""
        if not drafted or not max(drafted):
            return [0] * len(drafted)
        known = {r.slot: r for r in self._requests}
        drafting = [known[slot] for slot in self._plan.slots]
        survival = self._believed(drafting, confidences, drafted)
        pool = pooled((i, a[: r.limit]) for i, (a, r) in enumerate(zip(survival, drafting, strict=True)))
        n = len(self._requests)
        host = self.cost.host.seconds[n - 1 + sum(drafted) :]
        values = worth([draft[0] for draft in pool], self._decode(n, n + len(pool)), host, self._price())
        admitted = [0] * len(drafted)
        for _, _, i in pool[: values.index(max(values))]:
            admitted[i] += 1
        return admitted

    def observe(self, rounds: Sequence[Round]) -> None:
        """Learn what the round cost and what was accepted."""
        requests, plan = self._requests, self._plan
        if len(requests) != len(rounds) or not rounds:
            return  # a round that was not planned here
        self._requests = ()
        self._rounds += 1
        self._learn_costs(requests, rounds, teaches=self._rounds < _SEASON or self._rounds % _THIN == 0)
        blocks, learners = iter(self._shares), _LEARNERS
        slots = set(plan.slots)
        for request, record in zip(requests, rounds, strict=True):
            shares = next(blocks, None) if request.slot in slots else None
            if shares is None:
                self._texts[request.slot].history.wait()
            else:
                self._learn(request, record, shares, teach=learners > 0)
                learners -= 1

    # Planning

    def _rest(self, requests: Sequence[Request]) -> Plan:
        """Park once more. Reckoning took 0.6 ms a round: a decode leaves nothing of ours in the processor's caches."""
        self._requests = ()
        self._pace.add(1, 1)
        for r in requests:
            text = self._texts[r.slot]
            text.purse.tokens += 1
            text.history.wait()
        return self._plan

    def _foresee(self, requests: Sequence[Request]) -> None:
        """Believe something of every slot's next block."""
        assert self.forecast is not None
        self._requests, self._depth = requests, sum(r.depth for r in requests)
        self._texts.foresee(requests, self.forecast)

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
        again = {r.slot for r in requests if r.limit and (r.rounds == 0 or self._texts[r.slot].history.silent > LATE)}
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
        n, most = len(requests), min(self.gamma, max(r.limit for r in requests))
        able = [r for r in requests if r.limit]
        believed = beliefs or {r.slot: self._texts[r.slot].belief for r in able}
        pool = pooled((r.slot, believed[r.slot][: min(most, r.limit)]) for r in able)
        price, host = self._price(), self.cost.host.seconds
        decode, draft = self._decode(n, n + len(pool), hopeful=True), self.cost.draft.hopeful
        plain = price * (self._plain(n) + host[n - 1])
        catch_up, backlog = self._catch_up(able)
        beyond = price * catch_up - plain  # a plain round
        extra = [price * seconds + beyond for seconds in draft[len(able) - 1 : len(able) * most : len(able)]]
        # should all its drafts fail, a round must not leave the texts too far behind
        trusts = self._trusts
        left = sum(self._texts[r.slot].purse.left(trusting=trusts) for r in requests)
        purse = plain * (left / n + faith(self._pace.gain)) - (0.0 if trusts else price * backlog)
        choice, affordable = choose(pool, decode, host[n - 1 :], price, drafting=len(able), extra=extra, purse=purse)
        made, rows = n + choice.tokens, n + choice.rows
        return _Best(
            gamma=choice.gamma if affordable else 0,
            slots=frozenset([slot for _, k, slot in pool if k < choice.gamma][: choice.rows]),
            gain=choice.gain if affordable else -math.inf,
            rate=price * made / (choice.cost + plain),
            plain=price * n / plain,
            tokens=made,
            rows=rows,
        )

    def _probe(self, requests: Sequence[Request], best: _Best) -> Request | None:
        """Who should look whether drafting pays again, if it is time: a new text, or who was silent longest."""
        able = self._parking.candidates(requests)
        if not able or not best.gamma:
            return None
        probing = max(able, key=lambda r: self._texts[r.slot].history.silent)
        catch_up, backlog = self._catch_up([probing])
        return probing if self._hope(probing, catch_up) > self._price() * backlog - best.gain else None

    def _hope(self, probing: Request, catch_up: float) -> float:
        """Tokens that a look may gain: a text that drafts well, at the odds of finding one."""
        n, most, price = len(self._requests), min(self.gamma, probing.limit), self._price()
        plain, *decode = self._decode(n, n + most, hopeful=True)[: most + 1]
        tokens = accumulate(_HOPE**k for k in range(1, most + 1))
        seconds = (d - plain + draft + catch_up for d, draft in zip(decode, self.cost.draft.hopeful, strict=False))
        gains = ((made - price * s) / (1 + made) for made, s in zip(tokens, seconds, strict=False))
        return self._parking.odds * self._texts.left(probing) * max(gains)

    # Costs

    def _price(self) -> float:
        """λ: tokens that a second is worth. The running rate, in plain decodes so that it keeps pace with the table."""
        n = len(self._requests)
        return max(1.0, self._pace.gain) * n / (self._plain(n) + self.cost.host.seconds[n - 1])

    def _plain(self, n: int) -> float:
        """Seconds of a plain decode of n requests."""
        return self.cost.at(self._depth)(self.fixed_rows or n)

    def _decode(self, least: int, most: int, *, hopeful: bool = False) -> list[float]:
        """Seconds of a target decode of least … most rows; what lies beyond comes along."""
        curve = self.cost.at(self._depth)
        if self.fixed_rows is not None:
            return [curve(self.fixed_rows)] * (most - least + 1)
        assert most <= len(curve), "the cost table is too small for so many requests"
        return (curve.hopeful if hopeful else curve.seconds)[least - 1 :]

    def _catch_up(self, requests: Sequence[Request]) -> tuple[float, float]:
        """Seconds of injection that a round is charged with, and those that are due beyond when a text begins to draft.

        Charged is what drafting rounds leave behind, and a share of the longer backlog by the rounds to come.
        """
        usual, rows, waiting = self.gamma + 1, 0.0, 0
        for r in requests:
            waiting += r.pending
            rows += r.pending
            if r.pending > usual:
                rows -= (r.pending - usual) * (1 - 1 / max(1.0, self._texts.left(r) / _A_ROUND))
        charged = self.cost.inject(math.ceil(rows))
        return charged, max(0.0, self.cost.inject(waiting) - charged)

    @property
    def _trusts(self) -> bool:
        """Whether drafting has paid so well lately that a backlog will be repaid."""
        return self._pace.gain > _TRUSTED

    # Learning

    def _believed(
        self, drafting: Sequence[Request], confidences: Sequence[Sequence[float]], drafted: Sequence[int]
    ) -> list[list[float]]:
        """Survival of each drafted block: by confidence, or as predicted where the drafter has none."""
        assert self.calibration is not None
        self._shares = [
            self.calibration.shares(known[:n], r.temperature) if known else []
            for r, known, n in zip(drafting, confidences, drafted, strict=True)
        ]
        return [
            list(accumulate(shares, mul)) if shares else self._texts[r.slot].belief[:n]
            for r, shares, n in zip(drafting, self._shares, drafted, strict=True)
        ]

    def _learn_costs(self, requests: Sequence[Request], rounds: Sequence[Round], *, teaches: bool) -> None:
        n, width, drafted, pending, made, depth = len(rounds), 0, 0, 0, 0, 0
        for q, r in zip(requests, rounds, strict=True):
            width += r.width
            made += len(r.tokens)
            depth += q.depth
            if r.draft:
                drafted += len(r.draft)
                pending += q.pending
        rows = self.fixed_rows or width
        if teaches:
            self.cost.learn(rounds[0].times, rows=rows, drafted=drafted, pending=pending, depth=depth)
        # by the table, not by the clock: one slow round says nothing of what rounds are worth
        usual = min(pending, n * (self.gamma + 1))
        seconds = self.cost.seconds(rows=rows, drafted=drafted, pending=usual, depth=depth)
        plain = self.cost.seconds(rows=self.fixed_rows or n, depth=depth)
        self._pace.add(made / n, seconds / plain)
        if not self._trusts:  # what a text pays once, others do not
            seconds += self.cost.inject(pending) - self.cost.inject(usual)
        for q, r in zip(requests, rounds, strict=True):
            self._texts[q.slot].purse.add(len(r.tokens), seconds / plain)

    def _learn(self, request: Request, record: Round, shares: list[float], *, teach: bool) -> None:
        assert self.forecast is not None
        assert self.calibration is not None
        text = self._texts[request.slot]
        if teach:
            self.forecast.learn(text.features, shares, record.admitted, record.accepted)
            self.calibration.observe(record.confidences, record.admitted, record.accepted, request.temperature)
        text.history.add(shares, record.admitted, record.accepted)
