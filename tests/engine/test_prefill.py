"""Several prompts share a step: fairly, within its rows, and while others stream."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dspark_local.backend.scripted import random_logits
from dspark_local.prefill import CHUNK, HOLD_UP, LEAST, Prefill
from dspark_local.sampling.rule import Sampler
from dspark_local.scheduling.policy import Fixed
from dspark_local.sequence import Sequence
from dspark_local.types import FinishReason, SamplingParams, Why
from tests.engine.harness import engine, run, say

if TYPE_CHECKING:
    from collections.abc import Sequence as Many

    from dspark_local.types import Round

GREEDY = Sampler.of(SamplingParams(seed=1))
MODEL = random_logits(10, seed=7)


def prompt(slot: int, left: int) -> Sequence:
    """A prompt of so many tokens, its anchor one of them."""
    return Sequence(slot, [1] * left, GREEDY, 1)


@dataclass(slots=True)
class Listening(Fixed):
    """Keeps what it is told."""

    heard: list[Round] = field(default_factory=list)

    def observe(self, rounds: Many[Round]) -> None:
        self.heard += rounds


def done(sequence: Sequence) -> bool:
    return sequence.cached >= sequence.start


def advance(plan: Prefill, waiting: list[Sequence], *, streaming: int = 0, room: int = 0) -> dict[int, int]:
    """Rows by slot of one step."""
    spans = plan.plan(waiting, streaming=streaming, room=room)
    by_slot = {s.slot: s for s in waiting}
    for span in spans:
        assert span.start == by_slot[span.slot].cached
        by_slot[span.slot].cached += len(span.tokens)
        assert span.outputs == (by_slot[span.slot].cached == len(by_slot[span.slot].tokens))
    return {span.slot: len(span.tokens) for span in spans}


def test_prompts_share_a_step_by_hand() -> None:
    """The oldest has half, the rest goes to the shortest; what it leaves, the others have, and the other way round."""
    plan = Prefill(256, whole=False)
    assert advance(plan, [prompt(0, 1000), prompt(1, 500), prompt(2, 60)]) == {0: 128, 2: 60, 1: 68}
    assert advance(plan, [prompt(0, 60), prompt(1, 60), prompt(2, 60)]) == {0: 60, 1: 60, 2: 60}
    assert advance(plan, [prompt(0, 1000), prompt(1, 6)]) == {0: 250, 1: 6}
    assert advance(plan, [prompt(0, 1000)]) == {0: 256}
    assert advance(plan, [prompt(0, 1000)], streaming=1, room=200) == {0: 200}  # beside a round of 56 rows
    assert advance(plan, [prompt(0, 1000)], streaming=1, room=100) == {0: 256}  # in a decode of its own
    assert plan.plan([]) == []


@settings(max_examples=300, deadline=None)
@given(
    chunk=st.integers(2, 40),
    whole=st.booleans(),
    joins=st.lists(st.tuples(st.integers(2, 200), st.integers(0, 5)), min_size=1, max_size=10),
)
def test_nobody_waits_longer_than_for_his_elders(chunk: int, whole: bool, joins: list[tuple[int, int]]) -> None:
    """Whoever joins later, a prompt is done when its own rows and its elders' are, at half of a step's rows.

    Where chunks are whole, at every second step. No step has more rows than it may, nor none.
    """
    plan = Prefill(chunk, whole=whole)
    waiting: list[Sequence] = []
    due: dict[int, int] = {}
    step = 0
    todo = list(enumerate(joins))
    while waiting or todo:
        while todo and todo[0][1][1] <= step - max(due, default=0):
            slot, (left, _) = todo.pop(0)
            waiting.append(prompt(slot, left))
            rows = chunk / 2
            due[slot] = step + sum(math.ceil((len(s.tokens) - s.cached) / rows) + 2 * whole for s in waiting)
        rows = advance(plan, waiting)
        assert sum(rows.values()) <= chunk
        assert rows or not waiting
        step += 1
        for sequence in [s for s in waiting if done(s)]:
            assert step <= due[sequence.slot]
            waiting.remove(sequence)


@given(long=st.integers(500, 5000), short=st.lists(st.integers(2, 40), min_size=1, max_size=3), whole=st.booleans())
def test_a_long_prompt_holds_up_no_short_one(long: int, short: list[int], whole: bool) -> None:
    """What fits in half of a step's rows is done in the first step, or the second where chunks are whole."""
    plan = Prefill(256, whole=whole)
    young = [prompt(1 + i, n) for i, n in enumerate(short)]
    for _ in range(1 + whole):
        advance(plan, [s for s in (prompt(0, long), *young) if not done(s)])
    assert all(map(done, young))


@given(lefts=st.lists(st.integers(2, 700), min_size=1, max_size=5), streaming=st.integers(0, 2))
def test_whole_chunks_end_at_fixed_positions(lefts: list[int], streaming: int) -> None:
    """Whoever shares the steps and however slow they are: at multiples of the chunk, and at the prompt's end."""
    plan = Prefill(64, whole=True)
    plan.learn(64, 100.0)
    waiting = [prompt(slot, left) for slot, left in enumerate(lefts)]
    while left := [s for s in waiting if not done(s)]:
        advance(plan, left, streaming=streaming)
        assert all(s.prefilled or s.cached % 64 == 0 for s in waiting)


def test_rows_are_fewer_while_others_stream() -> None:
    """As many as take the time that they may, by what chunks took before, more for many; and always some."""
    plan = Prefill(CHUNK, whole=False)
    for _ in range(30):
        plan.learn(100, 1.0)
    assert advance(plan, [prompt(0, 1000)], streaming=1, room=CHUNK) == {0: round(100 * HOLD_UP)}
    crowd = [prompt(slot, 1000) for slot in range(3)]
    assert sum(advance(plan, crowd, streaming=1, room=CHUNK).values()) == round(3 * 100 * HOLD_UP)
    assert advance(plan, [prompt(0, 1000)], streaming=0) == {0: CHUNK}
    for _ in range(60):
        plan.learn(100, 1000.0)
    assert advance(plan, [prompt(0, 1000)], streaming=1, room=CHUNK) == {0: LEAST}
    for _ in range(60):
        plan.learn(100, 0.001)
    assert advance(plan, [prompt(0, 1000)], streaming=1, room=CHUNK) == {0: CHUNK}


def test_prompts_that_come_together_share_decodes() -> None:
    """Sixteen prompts of sixty tokens are in the cache after six decodes, in which the first ones already generate."""
    made = engine(MODEL, MODEL, n_vocab=10, slots=16, n_batch=256)
    together = [made.add([n % 10, n // 10, *[3] * 59], GREEDY, max_tokens=20) for n in range(16)]
    for _ in range(6):
        made.step()
    assert all(s.prefilled for s in together)
    assert len(made.target.decodes) == 6
    assert len(together[0].tokens) > 61 + 4
    run(made)
    for n, sequence in enumerate(together):
        assert sequence.tokens == say(engine(MODEL, n_vocab=10), [n % 10, n // 10, *[3] * 59], 20).tokens


@pytest.mark.parametrize("fixed_width", [None, 4])
def test_others_stream_while_a_long_prompt_comes_in(fixed_width: int | None) -> None:
    """Every step commits to whoever generates, and in the fast mode that costs no decode more."""
    made = engine(MODEL, MODEL, n_vocab=10, slots=3, gamma=2, n_batch=64, fixed_width=fixed_width)
    talking = made.add([1], GREEDY, max_tokens=100)
    made.step()
    long = made.add([2] * 600, GREEDY, max_tokens=5)
    before, steps = len(made.target.decodes), 0
    while not long.prefilled:
        said = len(talking.tokens)
        made.step()
        steps += 1
        assert len(talking.tokens) > said
    decodes = made.target.decodes[before:]
    assert len(decodes) == steps if fixed_width is None else len(decodes) == 2 * steps
    assert max(map(sum, decodes)) <= 64
    run(made)
    assert long.tokens == say(engine(MODEL, n_vocab=10), [2] * 600, 5).tokens
    assert talking.tokens == say(engine(MODEL, n_vocab=10), [1], 100).tokens
    assert long.stats.times.prefill > 0


def test_the_first_token_comes_with_the_prompt() -> None:
    """Its last chunk is the only decode before it; that is no round, no policy hears of it, and its time is prefill."""
    made = engine(MODEL, MODEL, n_vocab=10, gamma=2, n_batch=64)
    made.policy = Listening(2)
    sequence = made.add([1] * 100, GREEDY, max_tokens=9)
    assert made.step() == []
    ((_, first),) = made.step()
    assert made.target.decodes == [(64,), (36,)]
    assert (first.why, first.width, first.tokens) == (Why.PROMPT, 1, tuple(sequence.tokens[100:]))
    assert first.times.prefill == first.times.total > 0
    assert (sequence.stats.rounds, sequence.stats.first_n, sequence.stats.predicted_n) == (0, 1, 1)
    assert not made.policy.heard
    run(made)
    assert sequence.tokens == say(engine(MODEL, n_vocab=10), [1] * 100, 9).tokens
    assert len(made.policy.heard) == sequence.stats.rounds == 3  # 3 + 3 + 2 tokens
    assert sequence.stats.accepted_length == pytest.approx(8 / 3)


def test_one_token_is_one_decode() -> None:
    """An answer that its first token ends takes no round at all, be it the last that may be or an end."""
    made = engine(MODEL, MODEL, n_vocab=10)
    assert say(made, [1] * 100, 1).finish_reason is FinishReason.LENGTH
    ended = engine(MODEL, MODEL, n_vocab=10, end=say(made, [2] * 100, 1).tokens[-1])
    assert say(ended, [2] * 100, 50).finish_reason is FinishReason.STOP
    assert ended.target.decodes == [(100,)]
