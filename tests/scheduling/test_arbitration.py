"""Each round takes who promises the most tokens a second, and neither spoils what the other has learned."""

from __future__ import annotations

import pytest

from dspark_local.backend.scripted import ScriptedDraft, ScriptedTarget, erring, random_logits, script_logits
from dspark_local.drafters.dspark import DSpark
from dspark_local.drafters.lookup import BLOCK, Lookup
from dspark_local.drafters.several import Several
from dspark_local.engine import Engine
from dspark_local.sampling.rule import Sampler
from dspark_local.scheduling.arbitration import Arbiter
from dspark_local.scheduling.cost import CostTable
from dspark_local.scheduling.policy import Request
from dspark_local.scheduling.scheduler import Auto
from dspark_local.scheduling.synthetic import MACHINES
from dspark_local.types import Round, RoundTimes, SamplingParams, Why
from tests.engine.harness import engine, run, say

REPACK = MACHINES["Q4_0 repack"]


class Settled(CostTable):
    """Costs that no clock moves: scripted decodes take no time."""

    def learn(self, *_: object, **__: object) -> None:
        pass


SURE, DOUBTFUL = (0.97,) * BLOCK, (0.3,) * BLOCK


def arbiter() -> Arbiter:
    return Arbiter(REPACK.table(gamma=2 * BLOCK), 7)


def test_a_sure_offer_is_taken_and_a_doubtful_one_is_not() -> None:
    """A long copy beats every block of seven; chances of one in three beat nothing."""
    plan = arbiter().plan([Request(0, 99, rounds=3, offered=SURE)])
    assert (plan.takers, plan.slots, plan.gamma, plan.why) == ((0,), (), 0, Why.DRAFT)
    assert plan.rate > 2 * plan.plain
    doubtful = arbiter()
    assert not doubtful.plan([Request(0, 99, rounds=3, offered=DOUBTFUL)]).takers


def test_an_offer_is_cut_where_the_rate_is_best() -> None:
    """By hand, on a staircase: four rows cost 1.11 of one, five 1.56; the fifth row's chance is not worth that."""
    policy = arbiter()
    policy.plan([Request(0, 99, rounds=3, offered=(0.95, 0.95, 0.95, 0.3, 0.3))])
    assert policy.admit([(0.95, 0.95, 0.95, 0.3, 0.3)], [5]) == [3]


def test_no_more_is_taken_than_a_request_can_use() -> None:
    """Two tokens are left: one draft."""
    policy = arbiter()
    assert policy.plan([Request(0, 1, rounds=3, offered=SURE)]).takers == (0,)
    assert policy.admit([SURE], [BLOCK]) == [1]


def test_without_offers_it_is_auto() -> None:
    """Plan for plan, round for round."""
    both = arbiter(), Auto(REPACK.table(gamma=2 * BLOCK), 7)
    for i in range(60):
        plans = [policy.plan([Request(0, 99, depth=i, rounds=i)]) for policy in both]
        assert plans[0] == plans[1]
        gamma, drafting = plans[0].gamma, len(plans[0].slots)
        admitted = [policy.admit([[0.8] * gamma] * drafting, [gamma] * drafting) for policy in both]
        assert admitted[0] == admitted[1]
        n = sum(admitted[0])
        times = RoundTimes(verify=0.03, draft=0.01 * bool(gamma), host=0.001)
        record = Round((0,) * (1 + n % 3), (0,) * gamma, n, n % 3, (0.8,) * gamma, 1 + n, times)
        for policy in both:
            policy.observe([record])


def test_some_take_while_others_draft() -> None:
    """Three requests: the copying one verifies its offer, the rest is planned as if it decoded plainly."""
    policy = Arbiter(REPACK.table(slots=3, gamma=2 * BLOCK), 7)
    requests = [Request(0, 99, rounds=3), Request(1, 99, rounds=3, offered=SURE), Request(2, 99, rounds=3)]
    plan = policy.plan(requests)
    assert plan.takers == (1,)
    assert 1 not in plan.slots
    order = sorted((*plan.slots, 1))
    said = [SURE if slot == 1 else [0.9] * plan.gamma for slot in order]
    admitted = policy.admit(said, [len(s) for s in said])
    assert len(admitted) == len(order)
    assert admitted[order.index(1)] > 0
    before = policy.forecast.rate if policy.forecast else 0
    records = [
        Round((0,), (0,) * 15, 15, 0, SURE, 16, RoundTimes(verify=0.09), by="lookup")
        if slot == 1
        else Round((0,), times=RoundTimes(verify=0.09))
        for slot in range(3)
    ]
    policy.observe(records)
    assert policy.forecast
    assert policy.forecast.rate == before or plan.slots  # a refused offer is no news of the drafter


def both(target: object, draft: object, *, n_vocab: int, slots: int = 1, fixed_width: int | None = None) -> Engine:
    model = ScriptedTarget(target, n_vocab, n_slots=slots)  # type: ignore[arg-type]  # LogitsOf, as in the harness
    drafter = Several(DSpark(ScriptedDraft(draft, n_vocab, n_slots=slots)), Lookup())  # type: ignore[arg-type]
    known = REPACK.table(slots=slots, gamma=2 * BLOCK)
    costs = Settled(known.decode, known.draft, known.inject, known.host)
    policy = Arbiter(costs, 7, fixed_rows=fixed_width and fixed_width * slots)
    return Engine(model, drafter, policy, is_end=lambda t: t == -1, fixed_width=fixed_width)


@pytest.mark.parametrize("fixed_width", [None, 4])
@pytest.mark.parametrize("temperature", [0.0, 0.7])
def test_it_changes_no_text(temperature: float, fixed_width: int | None) -> None:
    """Three requests at once over few tokens, where everything matches all the time, say what each says alone."""
    for seed in range(6):
        model, draft = random_logits(3, seed=seed), random_logits(3, seed=seed + seed % 2)
        pool = both(model, draft, n_vocab=3, slots=3, fixed_width=fixed_width)
        prompts = [[k % 3, 1, 2, k % 2] * 3 for k in range(3)]
        sampler = Sampler.of(SamplingParams(seed=1, temperature=temperature))
        together = [pool.add(p, sampler, max_tokens=30 + 9 * i) for i, p in enumerate(prompts)]
        run(pool)
        for i, (prompt, sequence) in enumerate(zip(prompts, together, strict=True)):
            assert sequence.tokens == say(engine(model, n_vocab=3), prompt, 30 + 9 * i, temperature=temperature).tokens


def test_a_copy_is_looked_up_and_the_rest_is_drafted() -> None:
    """Both propose, rounds say who; the drafter catches up with what was copied and drafts right behind it."""
    passage, new = list(range(20, 80)), [*range(100, 160)]
    says = script_logits(200, passage + new, after=len(passage), end=199)
    pool = both(says, says, n_vocab=200)
    sequence = pool.add(passage, Sampler.of(SamplingParams(seed=1)), max_tokens=120)
    by: list[str] = []
    while pool.active:
        by += [record.by for _, record in pool.step() if record.drafted]
    assert sequence.tokens == passage + passage + new
    assert set(by) == {"lookup", "dspark"}
    assert sequence.stats.accepted_by["lookup"] > 20
    assert sequence.stats.accepted_by["dspark"] > 20
    assert sum(sequence.stats.accepted_by.values()) == sequence.stats.draft_n_accepted


def test_a_drafter_that_always_errs_leaves_copies_alone() -> None:
    """Copies still come from the text."""
    passage = list(range(20, 80))
    says = script_logits(100, passage, after=len(passage), end=99)
    pool = both(says, erring(says, 100, lambda _: True), n_vocab=100)
    sequence = pool.add(passage, Sampler.of(SamplingParams(seed=1)), max_tokens=60)
    run(pool)
    assert sequence.tokens == passage * 2
    assert sequence.stats.accepted_by["lookup"] > 40
