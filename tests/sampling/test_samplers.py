"""Penalties, DRY, typical-p, dynamic temperature, constraints and log-probabilities, against hand-worked cases."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dspark_local.errors import UsageError
from dspark_local.sampling.draw import SPREAD
from dspark_local.sampling.dry import repeats
from dspark_local.sampling.logprobs import logprobs
from dspark_local.sampling.peaks import Peaks
from dspark_local.sampling.penalties import Row, penalised
from dspark_local.sampling.rule import Sampler
from dspark_local.sampling.temperature import temperature
from dspark_local.sampling.truncation import candidates, top_k, typical_p
from dspark_local.sampling.walk import Walk
from dspark_local.types import SamplingParams
from tests.sampling.chi import fits


@dataclass
class Only:
    """Allows some tokens, and remembers what it accepted."""

    tokens: frozenset[int]
    said: list[int] = field(default_factory=list)
    asked: list[int] = field(default_factory=list)
    table: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.table = np.zeros(1 << 16, np.bool_)
        self.table[list(self.tokens)] = True

    def allowed(self, tokens: np.ndarray) -> np.ndarray:
        self.asked.append(len(tokens))
        return self.table[tokens]

    def accept(self, token: int) -> None:
        assert token in self.tokens
        self.said.append(token)

    def copy(self) -> Only:
        return replace(self, said=self.said[:], asked=[])


def test_penalties_by_hand() -> None:
    """Token 1 twice and token 2 once in the window: divided or multiplied, then less by count and once."""
    params = SamplingParams(repeat_penalty=2, frequency_penalty=0.5, presence_penalty=0.25, repeat_last_n=3)
    row = penalised(Row(np.array([1, 3, -1, 2], np.float32)), params, [3, 1, 2, 1], {})
    np.testing.assert_allclose(row.logits, [1, 3 / 2 - 1.25, -2 - 0.75, 2])


def test_penalties_reach_candidates_by_their_ids() -> None:
    """A row of some tokens only: what is not there is passed over."""
    params = SamplingParams(presence_penalty=1, logit_bias=((9, 4.0), (5, 1.0)))
    row = penalised(Row(np.zeros(2, np.float32), np.array([5, 7])), params, [7, 8], {})
    np.testing.assert_allclose(row.logits, [1, -1])
    assert row.ids is not None


def test_nothing_to_change_copies_nothing() -> None:
    """The row itself comes back; and a changed one leaves the model's own logits as they were."""
    logits = np.zeros(4, np.float32)
    assert penalised(Row(logits), SamplingParams(repeat_penalty=1.5), [], {}).logits is logits
    penalised(Row(logits), SamplingParams(presence_penalty=1), [1], {})
    assert not logits.any()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize(
    "extreme",
    [
        {"repeat_penalty": 1e300}, {"repeat_penalty": 1e-300, "presence_penalty": 1e300},
        {"frequency_penalty": -1e300, "presence_penalty": -1e300}, {"logit_bias": ((1, 1e300), (2, -1e300))},
        {"logit_bias": ((1, -np.inf),), "presence_penalty": -1e300, "repeat_penalty": 1e-300},
        {"dry_multiplier": 1e300, "dry_base": 1e300, "dry_allowed_length": 1},
        {"dynatemp_range": 1e308, "dynatemp_exponent": 1e300},
    ],
)  # fmt: skip
def test_extreme_values_overflow_nothing(extreme: dict[str, Any], temperature: float) -> None:
    """No warning and no NaN; what is banned stays so, and hot is even."""
    logits = np.array([0, 3, -2, 1, 2], np.float32)
    params = SamplingParams(seed=1, temperature=temperature, typical_p=0.99, **extreme)
    row = penalised(Row(logits), params, [1, 2, 0, 1, 2], {})
    assert not np.isnan(row.logits).any()
    assert (row.logits < np.inf).all()
    assert row.logits[1] == -np.inf or (1, -np.inf) not in params.logit_bias
    assert Sampler.of(params).pick(logits, 0, recent=[1, 2, 0, 1, 2]) in range(5)
    assert Sampler.of(replace(params, temperature=1e308)).pick(logits, 0) in range(5)


def test_dry_by_hand() -> None:
    """After a b c … a b: c would repeat three of length two, and what followed the lone b before repeats one."""
    a, b, c, d = range(4)
    params = SamplingParams(dry_multiplier=1, dry_base=2, dry_allowed_length=1)
    assert repeats([a, b, c, b, d, a, b], params, {}) == {c: 2.0, d: 1.0}
    assert repeats([a, b, c, b, d, a, b], replace(params, dry_allowed_length=2), {}) == {c: 1.0}
    assert repeats([a, b, c, b, d, a, b], replace(params, dry_allowed_length=3), {}) == {}
    assert repeats([a, b, c, b, d, a, b], params, {a: ((),)}) == {c: 1.0, d: 1.0}  # nothing reaches across a
    assert repeats([a, b, c, b, d, a, b], params, {c: ((),)}) == {d: 1.0}  # what breaks is not penalised
    assert repeats([a, b, c, b, d, a, b], params, {b: ((d,),)}) == {c: 2.0, d: 1.0}  # no breaker after b d ended


def test_typical_by_hand() -> None:
    """Of 0.6, 0.2, 0.1, 0.1 the entropy is 1.09 nats: the surprises 1.61, 0.51, 2.30, 2.30 are near in this order."""
    logits = np.log(np.array([0.6, 0.2, 0.1, 0.1], np.float32))
    assert list(typical_p(logits, None, 0.1)) == [1]
    assert list(typical_p(logits, None, 0.3)) == [1, 0]
    assert list(typical_p(logits, None, 0.85)) == [1, 0, 2]
    assert list(typical_p(logits, np.array([0, 2]), 0.5)) == [0]  # 6/7 and 1/7 of these two: 0.15 and 1.95 to 0.41


def test_dynamic_temperature_by_hand() -> None:
    """An even row is the hottest, a sure one the coolest, and one token has no entropy."""
    params = SamplingParams(temperature=1, dynatemp_range=0.5, dynatemp_exponent=2)
    assert temperature(np.zeros(4), params) == pytest.approx(1.5)
    assert temperature(np.array([100.0, 0, 0]), params) == pytest.approx(0.5)
    half = temperature(np.array([0.0, 0, -np.inf, -np.inf]), params)  # log 2 of log 4
    assert half == pytest.approx(0.5 + 0.25)
    assert temperature(np.zeros(1), params) == 1
    assert temperature(np.array([100.0, 0]), SamplingParams(temperature=0.2, dynatemp_range=1)) == pytest.approx(0)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 400), st.integers(1, 9))
def test_top_k_of_a_large_row_is_that_of_a_sort(seed: int, k: int, levels: int) -> None:
    """With few levels, so with many ties, and with none."""
    rng = np.random.default_rng(seed)
    size = int(rng.integers(k, 60_000))
    logits = rng.integers(0, 10**levels, size).astype(np.float32)
    expected = np.lexsort((np.arange(size), -logits))[:k]
    assert set(top_k(logits, k)) == set(expected)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 60_000), st.integers(0, 9), st.sampled_from([0.0, 0.3, 0.99, 1.0]))
def test_logits_that_reach_a_threshold_are_found(seed: int, size: int, levels: int, at: float) -> None:
    """Few or all, in columns or in what is left beside them; and the largest."""
    logits = np.random.default_rng(seed).integers(0, 10**levels, size).astype(np.float32)
    peaks, threshold = Peaks.of(logits), float(np.quantile(logits, at))
    assert peaks.top == logits.max()
    np.testing.assert_array_equal(peaks.at_least(threshold), np.flatnonzero(logits >= threshold))


@pytest.mark.parametrize("params", [{}, {"top_k": 4}, {"top_p": 0.9}])
def test_constrained_draws_follow_the_allowed_part(params: dict[str, Any]) -> None:
    """Chi-square of 20,000 draws against what truncation left, restricted to what is allowed."""
    logits = np.log(np.array([0.3, 0.25, 0.2, 0.15, 0.1], np.float32))
    sampling = SamplingParams(temperature=1, seed=4, **params)
    only = Only(frozenset({1, 3, 4}))
    counts = np.bincount([Sampler.of(sampling).pick(logits, i, constraint=only) for i in range(20_000)], minlength=5)
    kept = candidates(logits, sampling)
    weights = np.exp(logits.astype(float))
    drawable = only.tokens if kept is None else only.tokens & set(kept.tolist())
    weights[[t for t in range(5) if t not in drawable]] = 0
    assert fits(counts, weights / weights.sum())


def test_the_constrained_group_is_drawn_exactly() -> None:
    """One forbidden likely token, one allowed, and a tail of which half is allowed: chi-square over the parts."""
    tail = np.full(40_000, -SPREAD - 0.5, np.float32)
    logits = np.concatenate((np.float32([0, -3]), tail))
    only = Only(frozenset([1, *range(2, 40_002, 2)]))
    sampler = Sampler.of(SamplingParams(temperature=1, seed=8))
    picks = [sampler.pick(logits, i, constraint=only) for i in range(800)]
    assert all(p in only.tokens for p in picks)
    weights = np.array([math.exp(-3), 20_000 * math.exp(-SPREAD - 0.5)])
    counts = np.array([picks.count(1), len(picks) - picks.count(1)])
    assert fits(counts, weights / weights.sum())


def test_a_pick_that_is_allowed_is_the_unconstrained_one() -> None:
    """And one token is asked about then, not the vocabulary."""
    sampler = Sampler.of(SamplingParams(temperature=1, seed=8))
    logits = np.random.default_rng(1).normal(size=500).astype(np.float32)
    for position in range(50):
        free = sampler.pick(logits, position)
        assert free is not None
        only = Only(frozenset({free, 3}))
        assert sampler.pick(logits, position, constraint=only) == free
        assert only.asked == [1]


def test_what_is_allowed_beyond_the_truncated_set_is_truncated_anew() -> None:
    """Nothing of the top 2 is allowed: then the top 2 of what is. At temperature 0 the likeliest allowed one."""
    logits = np.log(np.array([0.4, 0.3, 0.15, 0.1, 0.05], np.float32))
    sampler = Sampler.of(SamplingParams(temperature=1, top_k=2, seed=1))
    picks = {sampler.pick(logits, i, constraint=Only(frozenset({2, 3, 4}))) for i in range(300)}
    assert picks == {2, 3}
    greedy = Sampler.of(SamplingParams(seed=1))
    assert greedy.pick(logits, 0, constraint=Only(frozenset({4, 2}))) == 2


def test_typical_p_counts_at_temperature_zero_too() -> None:
    """As in llama.cpp's chain: the likeliest of what it leaves, which need not be the likeliest of all."""
    logits = np.log(np.array([0.6, 0.2, 0.1, 0.1], np.float32))
    assert Sampler.of(SamplingParams(seed=1)).pick(logits, 0) == 0
    assert Sampler.of(SamplingParams(typical_p=0.1, seed=1)).pick(logits, 0) == 1


@pytest.mark.parametrize("heat", [0.0, 1.0])
def test_a_walk_that_is_stuck_says_so(heat: float) -> None:
    """No token is allowed: the walk stays where it is."""
    walk = Walk.begin(Sampler.of(SamplingParams(temperature=heat, seed=1), constraint=Only(frozenset())), [1, 2])
    assert walk.pick(np.zeros(5, np.float32)) is None
    assert (walk.stuck, walk.position) == (True, 2)


def test_a_fork_goes_its_own_way() -> None:
    """Each sees its own prefix, within the window, and its own constraint."""
    params = SamplingParams(presence_penalty=10, repeat_last_n=2, seed=1)
    walk = Walk.begin(Sampler.of(params, constraint=Only(frozenset(range(4)))), [0, 0, 3])
    logits = np.array([3, 2, 1, 0], np.float32)
    fork = walk.fork()
    assert [fork.pick(logits) for _ in range(4)] == [1, 0, 2, 1]  # 3 0: 1; 3 1: 0; 1 0: 2; 0 2: 1
    assert fork.recent == [2, 1]
    assert walk.recent == [0, 3]
    assert walk.position + 4 == fork.position
    assert walk.constraint is not None
    assert not walk.constraint.said  # type: ignore[attr-defined]  # an Only


def test_logprobs_by_hand() -> None:
    """Of the model's own distribution; the likeliest first, of equals the smaller id."""
    logits = np.log(np.array([0.1, 0.4, 0.1, 0.4], np.float32)) + 7
    found = logprobs(logits, 2, 3)
    assert found.logprob == pytest.approx(math.log(0.1), abs=1e-6)
    assert [t.token for t in found.top] == [1, 3, 0]
    assert found.top[0].logprob == pytest.approx(math.log(0.4), abs=1e-6)
    assert logprobs(logits, 2, 0).top == ()
    assert len(logprobs(logits, 2, 99).top) == 4


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"typical_p": 0}, "typical-p"),
        ({"repeat_penalty": 0}, "repeat-penalty"),
        ({"repeat_penalty": math.inf}, "repeat-penalty"),
        ({"repeat_last_n": -2}, "repeat-last-n"),
        ({"frequency_penalty": math.nan}, "frequency-penalty"),
        ({"presence_penalty": math.inf}, "presence-penalty"),
        ({"dry_multiplier": -1}, "dry-multiplier"),
        ({"dry_base": 0.5}, "dry-base"),
        ({"dry_allowed_length": 0}, "dry-allowed-length"),
        ({"dry_penalty_last_n": -2}, "dry-penalty-last-n"),
        ({"dry_sequence_breakers": ("",)}, "dry-sequence-breaker"),
        ({"dynatemp_range": -1}, "dynatemp-range"),
        ({"dynatemp_exponent": -1}, "dynatemp-exponent"),
        ({"logit_bias": ((-1, 1.0),)}, "logit-bias"),
        ({"logit_bias": ((1, math.inf),)}, "logit-bias"),
        ({"logit_bias": ((1, math.nan),)}, "logit-bias"),
        ({"logit_bias": ((1, 1.0), (1, 2.0))}, "twice"),
        ({"logprobs": -1}, "logprobs"),
        ({"grammar": "root ::= ", "json_schema": "{}"}, "contradict"),
    ],
)
def test_parameters_out_of_range_are_refused(wrong: dict[str, Any], says: str) -> None:
    """One line that names the parameter."""
    with pytest.raises(UsageError, match=says):
        SamplingParams(**wrong)
