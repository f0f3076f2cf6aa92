"""The rule that picks tokens, against probabilities worked out by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspark_local.errors import UsageError
from dspark_local.sampling.draw import SPREAD
from dspark_local.sampling.rule import Sampler
from dspark_local.sampling.truncation import candidates, min_p, top_k, top_p
from dspark_local.types import SamplingParams

LOGITS = np.log(np.array([0.05, 0.4, 0.1, 0.3, 0.15], np.float32))  # 1, 3, 4, 2, 0 by probability
ALL = np.arange(5)


def test_truncations_by_hand() -> None:
    """The sets that llama.cpp's samplers keep."""
    assert set(top_k(LOGITS, 2)) == {1, 3}
    assert set(top_k(LOGITS, 0)) == set(top_k(LOGITS, 9)) == set(ALL)
    assert list(top_p(LOGITS, ALL, 0.4)) == [1]
    assert list(top_p(LOGITS, ALL, 0.69)) == [1, 3]
    assert list(top_p(LOGITS, ALL, 0.71)) == [1, 3, 4]
    assert set(min_p(LOGITS, ALL, 0.30)) == {1, 3, 4}
    assert set(min_p(LOGITS, ALL, 1.0)) == {1}


def test_top_p_counts_what_top_k_left() -> None:
    """Order matters: of the two that top-k keeps, the first has 4/7 of the mass, so p = 0.55 keeps it alone."""
    assert list(candidates(LOGITS, SamplingParams(temperature=1, top_k=2, top_p=0.55))) == [1]


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=20), st.integers(1, 25))
def test_ties_at_the_boundary_keep_the_smaller_ids(values: list[int], k: int) -> None:
    """Top-k is the first k of a stable sort, whatever is equal."""
    logits = np.array(values, np.float32)
    expected = sorted(range(len(values)), key=lambda i: (-values[i], i))[:k]
    assert sorted(top_k(logits, k)) == sorted(expected)


@given(
    st.lists(st.floats(-30, 30, width=32), min_size=1, max_size=30),
    st.integers(0, 10),
    st.floats(0.01, 1),
    st.floats(0, 1),
    st.floats(0, 3),
)
def test_the_likeliest_token_always_survives(
    values: list[float], k: int, p: float, least: float, temperature: float
) -> None:
    """No combination empties the set or drops its maximum; a pick comes from it."""
    logits = np.array(values, np.float32)
    params = SamplingParams(temperature=temperature, top_k=k, top_p=p, min_p=least, seed=5)
    kept = candidates(logits, params)
    assert logits.max() in logits[... if kept is None else kept]
    assert Sampler.of(params).pick(logits, 3) in (np.arange(len(values)) if kept is None else kept)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.5])
def test_picks_follow_the_distribution(temperature: float) -> None:
    """Chi-square of 20,000 picks at successive positions against softmax(logits / T), at the 0.1 % level."""
    sampler = Sampler.of(SamplingParams(temperature=temperature, seed=9))
    counts = np.bincount([sampler.pick(LOGITS, i) for i in range(20_000)], minlength=5)
    weights = np.exp(LOGITS.astype(float) / temperature)
    expected = weights / weights.sum() * counts.sum()
    assert ((counts - expected) ** 2 / expected).sum() < 18.47  # 4 degrees of freedom


def test_the_group_of_unlikely_tokens_is_drawn_exactly() -> None:
    """One likely token over 40,000 that together weigh as much: chi-square over head and tenths of the tail."""
    tail = np.repeat(np.linspace(-13, -12.2, 10, dtype=np.float32), 4000)
    logits = np.concatenate(([np.float32(0)], tail))
    assert (tail < -SPREAD).all()
    sampler = Sampler.of(SamplingParams(temperature=1.0, seed=21))
    picks = np.array([sampler.pick(logits, i) for i in range(4000)])
    counts = np.bincount(np.where(picks == 0, 0, 1 + (picks - 1) // 4000), minlength=11)
    weights = np.concatenate(([1.0], np.exp(tail.reshape(10, -1).astype(float)).sum(1)))
    expected = weights / weights.sum() * counts.sum()
    assert 0.1 < weights[1:].sum() < 0.5
    assert ((counts - expected) ** 2 / expected).sum() < 29.59  # 10 degrees of freedom, 0.1 %
    assert len(set(picks[picks > 0])) > 0.9 * (picks > 0).sum()  # within a tenth, all tokens alike


def test_a_large_nucleus_is_found_whole() -> None:
    """Top-p over more tokens than are sorted at first: of equals the smaller ids."""
    assert sorted(top_p(np.zeros(5000, np.float32), None, 0.5)) == list(range(2500))


@given(st.integers(0, 2**32), st.integers(1, 20_000), st.floats(0.01, 0.999), st.integers(0, 5))
def test_a_nucleus_is_that_of_a_sort(seed: int, size: int, p: float, levels: int) -> None:
    """However large, and with however many ties."""
    logits = np.random.default_rng(seed).normal(0, 2, size).round(levels).astype(np.float32)
    order = np.lexsort((np.arange(size), -logits))
    weights = np.exp(logits.astype(float) - float(logits.max()))
    sums = np.cumsum(weights[order])
    found = top_p(logits, None, p)
    assert set(found) == set(order[: found.size])
    assert sums[found.size - 1] >= p * sums[-1] * (1 - 1e-12)
    assert found.size == 1 or sums[found.size - 2] <= p * sums[-1] * (1 + 1e-12)


def test_temperature_zero_is_greedy_and_the_smaller_id_wins_ties() -> None:
    """No noise, no truncation, whatever the other parameters say."""
    greedy = Sampler.of(SamplingParams(temperature=0, top_k=3, top_p=0.1, seed=1))
    assert greedy.pick(LOGITS, 0) == 1
    assert greedy.pick(np.array([1.0, 2.0, 2.0]), 0) == 1


def test_a_seed_is_drawn_when_none_is_given() -> None:
    """Two samplers of the same parameters draw different seeds; a given one is kept."""
    assert Sampler.of(SamplingParams()).seed != Sampler.of(SamplingParams()).seed
    assert Sampler.of(SamplingParams(seed=7)).seed == 7


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": -1},
        {"temperature": math.nan},
        {"temperature": math.inf},
        {"top_k": -1},
        {"top_p": 0},
        {"top_p": 1.1},
        {"top_p": math.nan},
        {"min_p": -0.1},
        {"min_p": 2},
        {"seed": -1},
        {"seed": 2**64},
        {"choice": -1},
    ],
)
def test_parameters_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    """One line that names the parameter."""
    (name,) = wrong
    with pytest.raises(UsageError, match=name.replace("_", "-")):
        SamplingParams(**wrong)  # type: ignore[arg-type]  # that is the point


GOLDEN_PICKS = {
    ("seed", 42): [1491, 2203, 1702, 2903, 942, 3742, 4744, 1021],
    ("top_k", 40): [3090, 1889, 3277, 3090, 4653, 2064, 4828, 338],
    ("top_p", 0.9): [1491, 2203, 1702, 2903, 942, 3742, 4744, 1141],
    ("min_p", 0.05): [1491, 2203, 1702, 2903, 942, 3742, 4744, 1141],
    ("temperature", 4.0): [1491, 2203, 2035, 774, 942, 1167, 2337, 1021],
    ("temperature", 0.0): [0, 0, 0, 0, 0, 0, 0, 0],
}


@pytest.mark.parametrize(("name", "value"), GOLDEN_PICKS)
def test_golden_picks(name: str, value: float) -> None:
    """If this fails, seeds have changed their meaning: do not update the numbers, mend the rule.

    5000 logits from 0 to −33, so that half of the tokens draw as the group at T = 1.3.
    """
    logits = (-((np.arange(5000) * 7919) % 5003) / 150).astype(np.float32)
    sampler = Sampler.of(replace(SamplingParams(temperature=1.3, seed=42), **{name: value}))
    assert [sampler.pick(logits, i) for i in range(8)] == GOLDEN_PICKS[name, value]
