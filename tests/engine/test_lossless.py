"""Drafting never changes the text."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from functools import cache
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dspark_local.backend.scripted import erring, random_logits, script_logits
from dspark_local.sampling.rule import Sampler
from dspark_local.types import FinishReason, SamplingParams
from tests.engine.harness import engine, run, say

if TYPE_CHECKING:
    import numpy as np

    from dspark_local.engine import Engine
    from dspark_local.types import TokenLogprobs


ALL_ON: dict[str, Any] = {
    "top_k": 6,
    "typical_p": 0.95,
    "top_p": 0.9,
    "min_p": 0.05,
    "repeat_penalty": 1.2,
    "repeat_last_n": 4,
    "frequency_penalty": 0.3,
    "presence_penalty": -0.2,
    "dry_multiplier": 1.0,
    "dry_allowed_length": 1,
    "dry_penalty_last_n": -1,
    "dynatemp_range": 0.3,
    "logit_bias": ((0, 0.5), (1, -0.5)),
    "logprobs": 1,
}
SAMPLERS: list[dict[str, Any]] = [
    {}, {"top_k": 3}, {"top_p": 0.7}, {"min_p": 0.2}, {"typical_p": 0.6}, {"dynatemp_range": 0.5},
    {"repeat_penalty": 1.5, "repeat_last_n": 3}, {"dry_multiplier": 2.0, "dry_allowed_length": 1}, ALL_ON,
]  # fmt: skip


@pytest.mark.parametrize("pairs", [range(2_000), pytest.param(range(2_000, 10_000), marks=pytest.mark.slow)])
def test_random_pairs_say_what_the_target_says(pairs: range) -> None:
    """For thousands of random targets and drafters the drafted text equals the undrafted one, at every temperature."""
    for pair in pairs:
        draw = Random(pair)
        n_vocab = draw.randint(2, 12)
        target, draft = (cache(random_logits(n_vocab, seed=draw.getrandbits(32))) for _ in range(2))
        chosen = draw.choice(SAMPLERS) | {"temperature": draw.choice([0.0, 0.3, 0.7, 1.0, 1.5])}
        prompt, n = [draw.randint(0, 1) for _ in range(draw.randint(1, 6))], draw.randint(1, 12)
        plain = say(engine(target, n_vocab=n_vocab), prompt, n, **chosen)
        drafted = say(engine(target, draft, n_vocab=n_vocab, gamma=draw.randint(1, 7)), prompt, n, **chosen)
        assert drafted.tokens == plain.tokens, f"pair {pair}"
        assert len(plain.tokens) == len(prompt) + n


@pytest.mark.parametrize("gamma", [1, 2, 3, 4, 5, 6, 7])
def test_every_acceptance_pattern(gamma: int) -> None:
    """Whatever subset of 11 positions the drafter gets wrong, the text is the script, and the counts are right."""
    n_vocab, script = 16, [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5]
    for wrong in range(2 ** len(script)):
        says = script_logits(n_vocab, script, after=1, end=15)
        errs = erring(says, n_vocab, lambda length, wrong=wrong: bool(wrong >> (length - 1) & 1))
        sequence = say(engine(says, errs, n_vocab=n_vocab, gamma=gamma), [0], len(script))
        assert sequence.tokens == [0, *script]
        assert (sequence.stats.rounds, sequence.stats.draft_n_accepted) == expected(wrong, len(script), gamma)


@pytest.mark.parametrize("temperature", [0.0, 0.3, 0.7, 1.0, 1.5])
@pytest.mark.parametrize("gamma", [1, 3, 7])
def test_every_acceptance_pattern_with_all_samplers(gamma: int, temperature: float) -> None:
    """Whatever subset of 6 positions the drafter gets wrong: the tokens, and their log-probabilities, of no drafter."""
    n_vocab, model = 16, random_logits(16, seed=8)
    plain, told = telling(engine(model, n_vocab=n_vocab), temperature)
    for wrong in range(2**6):
        errs = erring(model, n_vocab, lambda length, wrong=wrong: bool(wrong >> (length - 1) & 1))
        assert telling(engine(model, errs, n_vocab=n_vocab, gamma=gamma), temperature) == (plain, told)
    assert len(told) == 6


def telling(made: Engine, temperature: float) -> tuple[list[int], list[TokenLogprobs]]:
    """Six tokens and what the records say of them."""
    sampling = SamplingParams(temperature=temperature, seed=1, **ALL_ON)
    sequence = made.add([0], Sampler.of(sampling), max_tokens=6)
    told: list[TokenLogprobs] = []
    while made.active:
        told += [entry for _, record in made.step() for entry in record.logprobs]
    return sequence.tokens, told


@dataclass
class Alternating:
    """Allows even tokens where an odd one was said, and odd ones behind an even; nothing once `n` were said."""

    n: int
    last: int = 0

    def allowed(self, tokens: np.ndarray) -> np.ndarray:
        return (tokens % 2 != self.last % 2) & (self.n > 0)

    def accept(self, token: int) -> None:
        assert token % 2 != self.last % 2
        self.n, self.last = self.n - 1, token

    def copy(self) -> Alternating:
        return replace(self)


@settings(max_examples=300, deadline=None)
@given(
    pair=st.tuples(st.integers(0, 2**32), st.integers(0, 2**32)),
    chosen=st.sampled_from(SAMPLERS),
    temperature=st.sampled_from([0.0, 0.3, 0.7, 1.0, 1.5]),
    gamma=st.integers(1, 7),
    allowed=st.integers(0, 12),
)
def test_constrained_text_is_the_undrafted_one(
    pair: tuple[int, int], chosen: dict[str, Any], temperature: float, gamma: int, allowed: int
) -> None:
    """Under a constraint as without; and where it allows nothing more, both break off there and say why."""
    target, draft = (random_logits(8, seed=s) for s in pair)
    sampler = Sampler.of(SamplingParams(temperature=temperature, seed=1, **chosen), constraint=Alternating(allowed))
    plain, drafted = engine(target, n_vocab=8), engine(target, draft, n_vocab=8, gamma=gamma)
    texts = []
    for made in (plain, drafted):
        sequence = made.add([4], sampler, max_tokens=10)
        run(made)
        texts.append((sequence.tokens, sequence.finish_reason))
        assert say(made, sequence.tokens, 3).tokens[: len(sequence.tokens)] == sequence.tokens  # the caches are sound
    assert texts[0] == texts[1]
    tokens, reason = texts[0]
    assert all(a % 2 != b % 2 for a, b in itertools.pairwise(tokens))
    assert len(tokens) == 1 + min(10, allowed)
    assert reason is (FinishReason.GRAMMAR if allowed < 10 else FinishReason.LENGTH)


def expected(wrong: int, n: int, gamma: int) -> tuple[int, int]:
    """Rounds and accepted drafts by hand: each round accepts up to the first wrong draft and adds one token."""
    at = rounds = accepted = 0
    while at < n:
        drafts = min(gamma, n - at - 1)
        k = next((i for i in range(drafts) if wrong >> (at + i) & 1), drafts)
        at, rounds, accepted = at + k + 1, rounds + 1, accepted + k
    return rounds, accepted


def test_a_perfect_drafter_is_accepted_whole() -> None:
    """With the target as its own drafter, greedy, every round behind the first token commits γ + 1 tokens."""
    model = random_logits(10, seed=5)
    sequence = say(engine(model, model, n_vocab=10, gamma=7), [1, 2, 3], 33)
    assert sequence.stats.accepted_length == 8
    assert sequence.stats.accepted_per_position == [1.0] * 7


@settings(max_examples=100, deadline=None)
@given(
    slots=st.integers(2, 8),
    fixed_width=st.sampled_from([None, 4]),
    requests=st.lists(
        st.tuples(st.lists(st.integers(0, 9), min_size=1, max_size=20), st.integers(1, 20), st.integers(0, 6)),
        min_size=1,
        max_size=12,
    ),
)
def test_sequences_that_join_and_leave_say_what_each_says_alone(
    slots: int, fixed_width: int | None, requests: list[tuple[list[int], int, int]]
) -> None:
    """Sharing the engine with others changes no one's text, whenever they join."""
    target, draft = random_logits(10, seed=1), random_logits(10, seed=2)
    shared = engine(target, draft, n_vocab=10, gamma=3, slots=slots, fixed_width=fixed_width, n_batch=8 * slots)
    sampler = Sampler.of(SamplingParams(temperature=0.8, seed=1))
    together = []
    for prompt, n, wait in requests:
        for _ in range(wait):
            shared.step()
        while not shared.free:
            shared.step()
        together.append(shared.add(prompt, sampler, max_tokens=n))
    run(shared)
    for sequence, (prompt, n, _) in zip(together, requests, strict=True):
        assert sequence.tokens == say(engine(target, n_vocab=10), prompt, n, temperature=0.8).tokens
        assert sequence.finish_reason is FinishReason.LENGTH


def test_fixed_width_decodes_have_one_shape() -> None:
    """In fixed-width mode every generating decode has W rows in every slot, drafted or not."""
    for draft in (None, random_logits(10, seed=2)):
        fixed = engine(random_logits(10, seed=1), draft, n_vocab=10, slots=3, fixed_width=4, n_ctx=64)
        say(fixed, [1, 2, 3], 20)
        assert set(fixed.target.decodes) == {(2,), (4, 4, 4)}  # the prefill, and everything after it
