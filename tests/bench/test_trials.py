"""Trials over the scripted backend, and their figures."""

from __future__ import annotations

import math

import pytest

from dspark_local.bench import planning, report
from dspark_local.bench.figures import geometric_mean, interval
from dspark_local.bench.prompts import Prompt
from dspark_local.bench.trials import Trials, run
from dspark_local.errors import UsageError
from dspark_local.scheduling.cost import CostTable
from dspark_local.scheduling.policies import named
from dspark_local.testing import scripted_runtime

PROMPTS = [Prompt(prompt="Hello", kind="chat"), Prompt(prompt="Go on", kind="code", temperature=0.8)]
POLICIES = ("fixed:3", "threshold:0.5", "paper", "auto", "oracle")


@pytest.fixture(scope="module")
def trials() -> Trials:
    policy = named("auto", CostTable.guess(0.002), gamma=7)
    with scripted_runtime("What the target says. " * 3, policy=policy, seconds=0.002) as runtime:
        found = run(runtime, PROMPTS, POLICIES, trials=2, max_tokens=30)
        assert runtime.policy is policy
    return found


def test_every_policy_answers_every_prompt_in_turns(trials: Trials) -> None:
    """As often as asked, with the same text as plain decoding."""
    assert trials.policies == [*POLICIES]
    assert all(len(said) == 2 for answers in trials.answers.values() for said in answers)
    assert [trials.forks(name) for name in POLICIES] == [0] * len(POLICIES)
    assert all(len(said.finish.tokens) == 30 for answers in trials.answers.values() for x in answers for said in x)


def test_nothing_is_faster_than_hindsight(trials: Trials) -> None:
    """By replay, where both pay the same costs."""
    assert trials.replayed_speed("oracle") >= max(trials.replayed_speed(name) for name in POLICIES) - 1e-9


def test_the_report_names_what_was_measured(trials: Trials) -> None:
    """A row a policy in every table; data for each answer; one sentence on auto."""
    text = report.markdown(trials)
    assert all(text.count(f" {name} ") >= 3 for name in POLICIES)
    answers = report.data(trials)["answers"]
    assert len(answers) == (len(POLICIES) + 1) * len(PROMPTS) * 2
    assert {a["kind"] for a in answers} == {"chat", "code"}
    assert report.sentence(trials).startswith("auto: ")


def test_without_a_drafter_there_is_nothing_to_compare() -> None:
    """And an unknown policy is told before anything runs."""
    with scripted_runtime(drafter=False) as runtime, pytest.raises(UsageError, match="without a drafter"):
        run(runtime, PROMPTS, POLICIES, trials=1, max_tokens=4)
    policy = named("auto", CostTable.guess(), gamma=7)
    with scripted_runtime(policy=policy) as runtime, pytest.raises(UsageError, match="no policy is called 'best'"):
        run(runtime, PROMPTS, ("best",), trials=1, max_tokens=4)


def test_an_interval_holds_the_mean() -> None:
    """Of equal ratios it is a point; of one ratio nothing is known."""
    assert interval([1.5] * 8) == pytest.approx((1.5, 1.5))
    low, high = interval([0.9, 1.1, 1.3, 1.0, 1.2])
    assert 0.9 < low < geometric_mean([0.9, 1.1, 1.3, 1.0, 1.2]) < high < 1.3
    assert all(math.isnan(x) for x in interval([1.0]))


def test_planning_follows_the_rates() -> None:
    """Drafts that always fail make fixed lengths slower than plain and auto park; perfect ones pay."""
    costs = CostTable.guess()
    never = planning.planned(costs, planning.rates("0", 7), ["fixed:3", "auto"])
    always = planning.planned(costs, planning.rates("1", 7), ["fixed:3", "auto", "oracle"])
    assert never["fixed:3"] < 0.8
    assert never["auto"] > 0.97
    assert always["oracle"] >= always["auto"] > always["fixed:3"] > 1.5
    assert planning.rates("0.8,0.5", 4) == [0.8, 0.5, 0.5, 0.5]
    with pytest.raises(UsageError, match="from 0 to 1"):
        planning.rates("0.8,x", 7)
