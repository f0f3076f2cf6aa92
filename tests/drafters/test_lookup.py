"""Lookup: the longest suffix is found, and whatever it proposes changes no text."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dspark_local.backend.scripted import ScriptedTarget, random_logits, script_logits
from dspark_local.drafters.lookup import BLOCK, LEAST, MOST, Lookup
from dspark_local.engine import Engine
from dspark_local.sampling.rule import Sampler
from dspark_local.scheduling.policy import Fixed
from dspark_local.sequence import Sequence
from dspark_local.types import SamplingParams
from tests.engine.harness import engine, run, say

GREEDY = Sampler.of(SamplingParams(seed=1))


def looking(logits: object, *, n_vocab: int, slots: int = 1, gamma: int = 7, fixed_width: int | None = None) -> Engine:
    model = ScriptedTarget(logits, n_vocab, n_ctx=4096, n_slots=slots)  # type: ignore[arg-type]  # a LogitsOf
    return Engine(model, Lookup(), Fixed(gamma), is_end=lambda t: t == -1, fixed_width=fixed_width)


def proposed(tokens: list[int], gamma: int = BLOCK) -> tuple[int, ...]:
    (proposal,) = Lookup().propose([Sequence(0, tokens, GREEDY, 99)], gamma)
    assert len(proposal.confidences) == len(proposal.tokens)
    assert all(0 < c < 1 for c in proposal.confidences)
    return proposal.tokens


@pytest.mark.parametrize(
    ("tokens", "drafts"),
    [
        ([1, 2, 3, 4, 5, 1, 2, 3], (4, 5, 1, 2)),
        ([1, 2, 3, 7, 1, 2, 3, 8, 1, 2, 3], (8, 1, 2, 3)),  # of equally long ones the latest
        ([9, 1, 2, 3, 7, 6, 1, 2, 3, 8, 9, 1, 2, 3], (7, 6, 1, 2)),  # the longer one, though it is older
        ([1, 2, 3], ()),
        ([1, 2, 9, 1, 2], ()),  # two tokens match by chance
        ([], ()),
        ([5, 5, 5, 5], (5, 5, 5, 5)),  # a copy goes on in itself
    ],
)
def test_what_followed_the_longest_suffix_is_proposed(tokens: list[int], drafts: tuple[int, ...]) -> None:
    """By hand."""
    assert proposed(tokens, 4) == drafts


@settings(max_examples=150, deadline=None)
@given(st.lists(st.integers(0, 2), min_size=LEAST, max_size=50), st.integers(1, BLOCK))
def test_the_suffix_is_the_longest_by_brute_force(tokens: list[int], gamma: int) -> None:
    """Compared with trying every place."""
    n = len(tokens)
    best, where = 0, 0
    for end in range(LEAST, n):
        length = next((k for k in range(end) if tokens[end - 1 - k] != tokens[n - 1 - k]), end)
        if length >= LEAST and length >= best:
            best, where = length, end
    drafts = proposed(tokens, gamma)
    assert bool(drafts) == bool(best)
    if best:
        text = tokens[:]
        for k in range(gamma):
            text.append(text[where + k])
        assert list(drafts) == text[n:]


@settings(max_examples=100, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    n_vocab=st.integers(2, 4),
    temperature=st.sampled_from([0.0, 0.7, 1.5]),
    gamma=st.integers(1, BLOCK),
    prompt=st.lists(st.integers(0, 1), min_size=1, max_size=12),
    fixed_width=st.sampled_from([None, 4]),
)
def test_it_changes_no_text(
    seed: int, n_vocab: int, temperature: float, gamma: int, prompt: list[int], fixed_width: int | None
) -> None:
    """With few tokens it matches all the time, and mostly errs."""
    target = random_logits(n_vocab, seed=seed)
    plain = say(engine(target, n_vocab=n_vocab), prompt, 20, temperature=temperature)
    drafted = looking(target, n_vocab=n_vocab, gamma=gamma, fixed_width=fixed_width)
    assert say(drafted, prompt, 20, temperature=temperature).tokens == plain.tokens


def test_texts_at_once_and_one_after_another_do_not_mix() -> None:
    """Each says what it says alone, in whatever slot, and after another text in the same slot."""
    target = random_logits(3, seed=2)
    shared = looking(target, n_vocab=3, slots=3)
    prompts = [[k % 3, 1, 2, k % 2] * 3 for k in range(9)]
    for batch in (prompts[:3], prompts[3:6], prompts[6:]):
        together = [shared.add(p, GREEDY, max_tokens=30) for p in batch]
        run(shared)
        assert [s.tokens for s in together] == [say(engine(target, n_vocab=3), p, 30).tokens for p in batch]


def test_a_copy_is_drafted_whole_and_a_model_is_not_needed() -> None:
    """A target that repeats its prompt: γ + 1 tokens a round, behind the first few."""
    passage = list(range(20, 60))
    copies = script_logits(64, passage * 3, after=len(passage), end=63)
    sequence = say(looking(copies, n_vocab=64), passage, 120)
    assert sequence.tokens == passage * 4
    assert sequence.stats.rounds <= LEAST + 120 / 8 + 1
    assert sequence.stats.draft_n_accepted == sequence.stats.draft_n


def test_trust_follows_what_became_of_matches() -> None:
    """Matches that hold are trusted more each time, those that fail less."""
    lookup = Lookup()
    trust: dict[bool, list[float]] = {}
    for held in (True, False):
        sequence = Sequence(0, [1, 2, 3, 4] * 3, GREEDY, 999)
        for i in range(30):
            (proposal,) = lookup.propose([sequence], 1)
            trust.setdefault(held, []).append(proposal.confidences[0])
            sequence.tokens += [proposal.tokens[0] if held else 100 + i, 1, 2, 3, 4]
    assert trust[True][-1] > 0.9
    assert trust[False][-1] < 0.3
    assert MOST > LEAST
