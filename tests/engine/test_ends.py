"""How sequences end, and what the caches are worth afterwards."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dspark_local.backend.scripted import random_logits, script_logits
from dspark_local.errors import ContextError, UsageError
from dspark_local.sampling.rule import Sampler
from dspark_local.types import FinishReason, SamplingParams
from tests.engine.harness import engine, run, say

GREEDY = Sampler.of(SamplingParams(seed=1))


def test_an_end_token_ends_the_answer_and_drafts_behind_it_are_cut() -> None:
    """Tokens that the drafter proposed after the end are not committed, though they match."""
    says = script_logits(10, [1, 2, 9, 3, 3, 3], after=1, end=9)
    sequence = say(engine(says, says, n_vocab=10, end=9), [0], 50)
    assert sequence.tokens == [0, 1, 2, 9]
    assert sequence.finish_reason is FinishReason.STOP


@settings(max_examples=200, deadline=None)
@given(
    prompt=st.integers(1, 32),
    gamma=st.integers(1, 7),
    drafted=st.booleans(),
    width=st.sampled_from([None, 4]),
)
def test_a_full_context_is_a_finish_reason(prompt: int, gamma: int, drafted: bool, width: int | None) -> None:
    """However long the prompt, generation ends with CONTEXT at the same token, drafted or not, and nothing fails."""
    model = random_logits(10, seed=3)
    room = 32 - (width or 1) + 1
    full = engine(model, model if drafted else None, n_vocab=10, gamma=gamma, n_ctx=32, fixed_width=width)
    if prompt > room:
        with pytest.raises(ContextError, match="shorten it"):
            say(full, [1] * prompt, 100)
        return
    sequence = say(full, [1] * prompt, 100)
    assert sequence.finish_reason is FinishReason.CONTEXT
    assert len(sequence.tokens) >= room + 1
    plain = say(engine(model, n_vocab=10, n_ctx=32, fixed_width=width), [1] * prompt, 100)
    assert sequence.tokens == plain.tokens


@settings(max_examples=300, deadline=None)
@given(
    steps=st.integers(0, 6),
    keep=st.integers(0, 30),
    again=st.lists(st.integers(0, 9), max_size=8),
    drafted=st.booleans(),
)
def test_a_request_after_one_that_was_cut_short_reads_no_stale_cache(
    steps: int, keep: int, again: list[int], drafted: bool
) -> None:
    """A request that shares a prefix with one that was stopped anywhere says what it says on a fresh engine."""
    model, draft = random_logits(10, seed=4), random_logits(10, seed=4 if drafted else 5)
    used = engine(model, draft, n_vocab=10)
    first = used.add([1, 2, 3, 4], GREEDY, max_tokens=100)
    for _ in range(steps):
        used.step()
    used.finish(first, FinishReason.CANCELLED, keep=min(len(first.tokens), first.prompt_n + keep))
    prompt = [*first.tokens, *again]
    assert say(used, prompt, 10).tokens == say(engine(model, n_vocab=10), prompt, 10).tokens


def test_a_second_turn_prefills_only_what_is_new() -> None:
    """The caches of a finished request serve the next one that begins with its tokens."""
    model = random_logits(10, seed=6)
    chat = engine(model, model, n_vocab=10)
    first = say(chat, [1] * 100, 20)
    before = len(chat.target.decodes)
    say(chat, [*first.tokens, 5, 6], 1)
    assert chat.target.decodes[before:] == [(3,)]  # the last token, 5, and the anchor, 6


def test_an_empty_prompt_is_refused() -> None:
    """There is no anchor to start from."""
    with pytest.raises(UsageError, match="empty"):
        engine(random_logits(4, seed=1), n_vocab=4).add([], GREEDY, max_tokens=1)


@pytest.mark.parametrize("token", [-1, 4])
def test_a_token_that_is_none_is_refused(token: int) -> None:
    """llama.cpp would fail the whole decode."""
    with pytest.raises(UsageError, match="from 0 to 3"):
        engine(random_logits(4, seed=1), n_vocab=4).add([1, token], GREEDY, max_tokens=1)


def test_finishing_twice_is_harmless() -> None:
    """Cancelling what has ended changes nothing."""
    done = say(fresh := engine(random_logits(4, seed=1), n_vocab=4), [1], 3)
    fresh.finish(done, FinishReason.CANCELLED)
    assert done.finish_reason is FinishReason.LENGTH
    run(fresh)
