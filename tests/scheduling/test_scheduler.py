"""The auto policy against brute force, and in odd company."""

from __future__ import annotations

import math
from itertools import accumulate, product
from operator import mul
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dspark_local.errors import BackendError, UsageError
from dspark_local.scheduling.cost import CostTable
from dspark_local.scheduling.curve import Curve
from dspark_local.scheduling.policies import Paper, Threshold, named
from dspark_local.scheduling.policy import Fixed, Plan, Request
from dspark_local.scheduling.purse import Purse
from dspark_local.scheduling.scheduler import Auto
from dspark_local.scheduling.texts import Text
from dspark_local.types import Round, RoundTimes, Why

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

KNOWN = 10**9  # timings behind an entry, so that nothing is hoped for
SECONDS = st.floats(0.01, 3.0)
SHARE = st.floats(0.0, 1.0)


@st.composite
def tables(draw: st.DrawFn, slots: int, gamma: int) -> CostTable:
    """Any staircase, falling steps included."""

    def curve(n: int) -> Curve:
        return Curve(np.array(draw(st.lists(SECONDS, min_size=n, max_size=n))), KNOWN)

    return CostTable({0: curve(slots * (gamma + 1))}, curve(slots * gamma), curve(64), curve(slots * (2 * gamma + 1)))


@st.composite
def pools(draw: st.DrawFn) -> tuple[Auto, list[Request]]:
    """A policy with any beliefs, costs and rate, and up to three requests with any limits."""
    gamma, slots = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    requests = [
        Request(slot, draw(st.integers(0, gamma + 1)), rounds=9, pending=draw(st.integers(0, gamma + 1)))
        for slot in range(slots)
    ]
    auto = Auto(draw(tables(slots, gamma)), gamma)
    auto._pace.tokens = auto._pace.plain * draw(st.floats(0.5, 3.0))
    for r in requests:
        shares = sorted((draw(SHARE) for _ in range(gamma)), reverse=True)
        auto._texts.slots[r.slot] = Text(belief=shares, purse=Purse(ahead=math.inf))
    auto._requests = requests
    return auto, requests


def widths(requests: Sequence[Request], gamma: int) -> Iterator[tuple[int, ...]]:
    return product(*(range(min(gamma, r.limit) + 1) for r in requests))


@settings(max_examples=100, deadline=None)
@given(pools())
def test_the_plan_is_the_best_of_every_gamma_and_every_width(pool: tuple[Auto, list[Request]]) -> None:
    """No γ, and no choice of ℓ for each request, is worth more by belief, cost table and λ."""
    auto, requests = pool
    if not any(r.limit for r in requests):
        assert auto.plan(requests).why is Why.LIMIT
        return
    cost, n = auto.cost, len(requests)
    rows = sum(r.limit > 0 for r in requests)
    pending = sum(r.pending for r in requests if r.limit)
    plain = cost.at(0)(n) + cost.host(n)
    price = max(1.0, auto._pace.gain) * n / plain

    def worth(gamma: int, admitted: Sequence[int]) -> float:
        tokens = sum(sum(auto._texts[r.slot].belief[:k]) for r, k in zip(requests, admitted, strict=True))
        batch = n + sum(admitted)
        seconds = cost.at(0)(batch) + cost.host(batch + rows * gamma) + cost.draft(rows * gamma)
        return tokens - price * (seconds + cost.inject(pending) - plain)

    most = min(auto.gamma, max(r.limit for r in requests))
    every = [worth(g, a) for g in range(1, most + 1) for a in widths(requests, g) if any(a)]
    best = auto._best(requests)
    assert best.gain == pytest.approx(max(every), abs=1e-6)
    plan = auto._choose(requests)
    assert (plan.why is Why.DRAFT) == (best.gain > 0)
    assert all(requests[slot].limit for slot in plan.slots)


@settings(max_examples=100, deadline=None)
@given(pools(), st.data())
def test_admission_is_the_best_of_every_choice_of_widths(pool: tuple[Auto, list[Request]], data: st.DataObject) -> None:
    """Whatever was drafted, with whatever confidence, no ℓ for each request is worth more."""
    auto, requests = pool
    gamma = auto.gamma
    drafting = [r for r in requests if r.limit]
    auto._plan = Plan(gamma, tuple(r.slot for r in drafting))
    confidences = [[data.draw(SHARE) for _ in range(gamma)] for _ in drafting]
    admitted = auto.admit(confidences, [gamma] * len(drafting))
    if not drafting:
        assert admitted == []
        return
    survival = [list(accumulate(shares, mul)) for shares in auto._shares]
    n, drafted, price = len(requests), gamma * len(drafting), auto._price()

    def worth(widths: Sequence[int]) -> float:
        tokens = sum(sum(a[:k]) for a, k in zip(survival, widths, strict=True))
        batch = n + sum(widths)
        return tokens - price * (auto.cost.at(0)(batch) + auto.cost.host(batch + drafted))

    assert worth(admitted) == pytest.approx(max(map(worth, widths(drafting, gamma))), abs=1e-6)
    assert all(k <= r.limit for k, r in zip(admitted, drafting, strict=True))


def round_of(requests: Sequence[Request], plan: Plan, admitted: Sequence[int], accepted: int = 0) -> list[Round]:
    given = dict(zip(plan.slots, admitted, strict=True))
    records = []
    for r in requests:
        n = given.get(r.slot, 0)
        k = min(n, accepted)
        drafted = plan.gamma if r.slot in given else 0
        times = RoundTimes(0, 0, 0.01, 0.03, 0)
        records.append(Round((0,) * (k + 1), (0,) * drafted, n, k, (0.5,) * drafted, 1 + n, times))
    return records


@pytest.mark.parametrize("seconds", [0.0, 1.0])
@pytest.mark.parametrize("confidence", [0.0, 1.0, None])
def test_zero_costs_equal_costs_and_certainties_leave_it_sane(seconds: float, confidence: float | None) -> None:
    """A hundred rounds of three requests: every γ, ℓ and forecast stays in range."""
    curves = [Curve(np.full(n, seconds)) for n in (24, 21, 64, 45)]
    auto = Auto(CostTable({0: curves[0]}, *curves[1:]), 7)
    for at in range(100):
        requests = [Request(s, (7, 3, 0)[s], depth=at, rounds=at, pending=at % 3) for s in range(3)]
        plan = auto.plan(requests)
        assert 0 <= plan.gamma <= 7
        assert math.isfinite(plan.rate)
        said = [[] if confidence is None else [confidence] * plan.gamma for _ in plan.slots]
        admitted = auto.admit(said, [plan.gamma] * len(plan.slots))
        assert all(0 <= n <= min(plan.gamma, requests[s].limit) for s, n in zip(plan.slots, admitted, strict=True))
        auto.observe(round_of(requests, plan, admitted, accepted=at % 8))
        for text in auto._texts.slots.values():
            assert all(0 < b <= 1 for b in text.belief)
            assert text.belief == sorted(text.belief, reverse=True)


def test_a_confidence_that_is_no_number_is_refused() -> None:
    """Rather than compared with, which would admit anything."""
    auto = Auto(CostTable.guess(), 7)
    plan = auto.plan([Request(0, 7)])
    with pytest.raises(BackendError, match="not a number"):
        auto.admit([[math.nan] * plan.gamma], [plan.gamma])


def test_without_confidences_survival_is_learned_from_acceptance() -> None:
    """A drafter that never succeeds parks, one that always does drafts whole blocks."""
    for accepted, why in ((0, Why.PARK), (7, Why.DRAFT)):
        auto = Auto(CostTable.guess(), 7)
        for at in range(60):
            request = [Request(0, 99, rounds=at)]
            plan = auto.plan(request)
            admitted = auto.admit([()] * len(plan.slots), [plan.gamma] * len(plan.slots))
            records = round_of(request, plan, admitted, accepted)
            auto.cost = CostTable.guess()  # as if the machine never differed from the table
            auto.observe([Round(r.tokens, r.draft, r.admitted, r.accepted, (), r.width, r.times) for r in records])
        assert auto.plan([Request(0, 99, rounds=60)]).why in {why, Why.PROBE} - ({Why.PROBE} if accepted else set())
        assert not accepted or auto._plan.gamma == 7


def test_a_round_that_it_did_not_plan_teaches_nothing() -> None:
    """The engine also reports rounds of a pair without a drafter."""
    auto = Auto(CostTable.guess(), 7)
    auto.observe([Round((1,))])
    assert auto._texts.slots == {}


def test_hopeless_costs_are_never_probed() -> None:
    """Where even text that drafts well would lose, looking again costs nothing because it is not done."""
    table = CostTable.guess(0.03)
    table.at(0).seconds[1:] = [20 * s for s in table.at(0).seconds[1:]]
    auto = Auto(table, 7)
    for at in range(200):
        requests = [Request(0, 99, rounds=at)]
        plan = auto.plan(requests)
        assert plan.why is Why.PARK
        assert plan.rate < plan.plain
        auto.observe(round_of(requests, plan, []))


def test_a_parked_policy_rests_until_a_probe_is_due_or_a_text_begins() -> None:
    """Between, it reckons nothing; then it looks again, at most once in sixty-five rounds."""
    auto = Auto(CostTable.guess(), 7)
    reckoned = []
    for at in range(400):
        requests = [Request(0, 99, rounds=at)]
        plan = auto.plan(requests)
        reckoned.append(bool(auto._requests))
        if plan.gamma:
            auto.admit([[0.01] * plan.gamma], [plan.gamma])
            auto.observe(round_of(requests, plan, [plan.gamma]))
        else:
            auto.observe(round_of(requests, plan, []))
    late = reckoned[200:]
    assert 2 <= sum(late) <= 12
    auto.plan([Request(0, 99, rounds=0)])
    assert auto._requests


def test_in_fixed_width_mode_what_was_drafted_is_verified() -> None:
    """All decodes cost the same there, so even a doubtful draft is worth its row."""
    auto = Auto(CostTable.guess(), 3, fixed_rows=4)
    plan = auto.plan([Request(0, 99)])
    assert plan.gamma
    assert auto.admit([[0.3] * plan.gamma], [plan.gamma]) == [plan.gamma]


def test_algorithm_1_stops_at_the_first_draft_that_does_not_pay() -> None:
    """Where a step lies before a gain, the paper's early stop misses it and the global scan does not."""
    stairs = Curve(np.array([1.0, 2.5, 2.5, 1.1]), KNOWN)
    free = [Curve(np.full(n, 1e-6), KNOWN) for n in (3, 64, 7)]
    said = [[0.95, 0.95, 0.95]]
    for policy, admitted in ((Paper(CostTable({0: stairs}, *free), 3), 0), (Auto(CostTable({0: stairs}, *free), 3), 3)):
        plan = policy.plan([Request(0, 9)])
        assert policy.admit([c[: plan.gamma] for c in said], [plan.gamma]) == [admitted]


def test_algorithm_1_maximises_its_own_ratio_on_a_smooth_curve() -> None:
    """τ·SPS(B) over a pool of two: where the curve is convex, stopping early loses nothing."""
    curve = Curve(np.array([1 + 0.1 * w + 0.02 * w * w for w in range(8)]), KNOWN)
    paper = Paper(CostTable({0: curve}, *(Curve(np.ones(n)) for n in (6, 64, 14))), 3)
    requests = [Request(0, 3), Request(1, 2)]
    paper.plan(requests)
    said = [[0.9, 0.8, 0.7], [0.6, 0.9, 0.9]]
    survival = np.cumprod(said, axis=1)

    def ratio(admitted: Sequence[int]) -> float:
        tokens = 2 + sum(a[:k].sum() for a, k in zip(survival, admitted, strict=True))
        return float(tokens / curve(2 + sum(admitted)))

    assert ratio(paper.admit(said, [3, 3])) == pytest.approx(max(map(ratio, widths(requests, 3))))


def test_a_threshold_cuts_before_the_first_doubtful_draft() -> None:
    """NaN is doubtful; no confidence is not."""
    assert Threshold(0.5).admit([[0.9, 0.4, 0.9], [math.nan], [], [0.6, 0.5]], [3, 1, 2, 2]) == [1, 0, 2, 2]


def test_policies_are_found_by_name() -> None:
    """And a wrong name is told what there is."""
    table = CostTable.guess()
    assert named("plain", table, gamma=7) == Fixed(0)
    assert named("fixed:3", table, gamma=7) == Fixed(3)
    assert named("threshold:.5", table, gamma=7) == Threshold(0.5, 7)
    assert isinstance(named("auto", table, gamma=7), Auto)
    assert isinstance(named("paper", table, gamma=7), Paper)
    for wrong in ("", "fixed", "fixed:x", "threshold:2", "threshold:nan", "auto:1", "best"):
        with pytest.raises(UsageError, match="give auto, paper, plain"):
            named(wrong, table, gamma=7)
    with pytest.raises(UsageError, match="fixed:7 is the most"):
        named("fixed:8", table, gamma=7)
