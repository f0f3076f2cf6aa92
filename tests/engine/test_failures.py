"""A decode that fails, wherever in the round, costs only those that cannot go on."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dspark_local.backend.base import Drafted, Features, NoRoomError, Rows
from dspark_local.backend.scripted import ScriptedDraft, ScriptedTarget, random_logits
from dspark_local.drafters.dspark import DSpark
from dspark_local.engine import STUMBLES, Engine
from dspark_local.errors import BackendError
from dspark_local.sampling.rule import Sampler
from dspark_local.scheduling.cost import CostTable
from dspark_local.scheduling.policies import named
from dspark_local.types import SamplingParams
from tests.engine.harness import engine, run, say

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from dspark_local.backend.base import Block, Span

MODEL = random_logits(10, seed=7)
GREEDY = Sampler.of(SamplingParams(seed=1))
PROMPTS = [[1] * 300, [2, 3], [4] * 20]
BAD = 9


@dataclass(slots=True)
class FaultyTarget(ScriptedTarget):
    """Cannot decode a text that begins with BAD, from `soon` tokens on."""

    soon: int = 1 << 30
    full: int = 1 << 30  # positions of all slots from which on there is no room

    def decode(self, spans: Sequence[Span]) -> list[Rows]:
        if sum(map(len, self.caches)) >= self.full:
            raise NoRoomError("no room")
        for span in spans:
            text = [*self.caches[span.slot], *span.tokens]
            if text[0] == BAD and len(text) >= self.soon and any(span.tokens):  # not in pads alone
                raise BackendError("it cannot")
        return ScriptedTarget.decode(self, spans)


@dataclass(slots=True)
class FaultyDraft(ScriptedDraft):
    """Fails at the calls that are named, by count over both kinds."""

    failing: frozenset[int] = frozenset()
    calls: int = 0
    failed: list[str] = field(default_factory=list)

    def _call(self, kind: str) -> None:
        self.calls += 1
        if self.calls - 1 in self.failing:
            self.failed.append(kind)
            raise BackendError("it cannot")

    def inject(self, features: Sequence[Features]) -> None:
        self._call("inject")
        ScriptedDraft.inject(self, features)

    def draft(self, blocks: Sequence[Block], gamma: int) -> list[Drafted]:
        self._call("draft")
        return ScriptedDraft.draft(self, blocks, gamma)


def faulty(
    target: FaultyTarget, draft: FaultyDraft, *, policy: str = "fixed:3", fixed_width: int | None = None
) -> Engine:
    chosen = named(policy, CostTable.guess(slots=3), gamma=3)
    return Engine(target, DSpark(draft), chosen, is_end=lambda _: False, fixed_width=fixed_width)


def alone(prompt: list[int], n: int = 30) -> list[int]:
    return list(_alone(tuple(prompt), n))


@cache
def _alone(prompt: tuple[int, ...], n: int) -> tuple[int, ...]:
    return tuple(say(engine(MODEL, n_vocab=10), list(prompt), n).tokens)


@pytest.mark.parametrize("fixed_width", [None, 4])
def test_a_decode_that_fails_once_costs_nothing(fixed_width: int | None) -> None:
    """At every decode of a step in turn: prefill, prefill beside a round, verify. All texts are what they are alone."""
    decodes = 0
    at = 0
    while at <= decodes:
        made = faulty(
            FaultyTarget(MODEL, 10, n_slots=3, fail_at=at), FaultyDraft(MODEL, 10, n_slots=3), fixed_width=fixed_width
        )
        together = [made.add(prompt, GREEDY, max_tokens=30) for prompt in PROMPTS]
        run(made)
        assert [s.tokens for s in together] == [alone(prompt) for prompt in PROMPTS]
        decodes = made.target.tries - 1
        at += 1
    assert at > 10


@pytest.mark.parametrize("fixed_width", [None, 4])
@pytest.mark.parametrize("soon", [1, 20, 30])
def test_only_who_cannot_go_on_is_lost(soon: int, fixed_width: int | None) -> None:
    """A text that the model fails at, from its prompt or from later on, ends with the error; the others are whole.

    The slot serves the next request, as if nothing had been.
    """
    made = faulty(
        FaultyTarget(MODEL, 10, n_slots=3, soon=soon), FaultyDraft(MODEL, 10, n_slots=3), fixed_width=fixed_width
    )
    bad = [BAD, 1, 2, 1, 2]
    first, lost, last = (made.add(prompt, GREEDY, max_tokens=40) for prompt in ([1] * 300, bad, [4] * 20))
    run(made)
    assert isinstance(lost.error, BackendError)
    assert lost.finish_reason is None
    assert len(lost.tokens) < 5 + 40
    assert first.tokens == alone(first.tokens[:300], 40)
    assert last.tokens == alone([4] * 20, 40)
    assert first.error is last.error is None
    made.target.soon = 1 << 30
    for prompt in (bad, [*last.tokens, 3]):
        assert say(made, prompt, 10).tokens == alone(prompt, 10)


@settings(max_examples=150, deadline=None)
@given(
    failing=st.frozensets(st.integers(0, 60), max_size=12),
    policy=st.sampled_from(["fixed:3", "auto", "paper", "threshold:.5"]),
    fixed_width=st.sampled_from([None, 4]),
)
def test_a_drafter_that_fails_costs_no_text(failing: frozenset[int], policy: str, fixed_width: int | None) -> None:
    """Whichever of its injections and drafts fail, texts are whole, and so is the next turn."""
    draft = FaultyDraft(MODEL, 10, n_slots=3, failing=failing)
    made = faulty(FaultyTarget(MODEL, 10, n_slots=3), draft, policy=policy, fixed_width=fixed_width)
    together = [made.add(prompt, GREEDY, max_tokens=30) for prompt in PROMPTS]
    run(made)
    assert [s.tokens for s in together] == [alone(prompt) for prompt in PROMPTS]
    again = [*together[0].tokens, 5]
    assert say(made, again, 10).tokens == alone(again, 10)


@pytest.mark.parametrize("first", ["inject", "draft"])
def test_a_drafter_that_fails_now_and_then_drafts_on(first: str) -> None:
    """A failure loses neither rows nor their order: the rounds after it draft as well as ever."""
    draft = FaultyDraft(MODEL, 10, failing=frozenset({0 if first == "inject" else 1}))
    sequence = say(faulty(FaultyTarget(MODEL, 10), draft), [1, 2, 3], 40)
    assert draft.failed == [first]
    assert sequence.stats.draft_n == sequence.stats.draft_n_accepted > 20
    assert not sequence.severed


def test_a_drafter_that_always_fails_is_left_out() -> None:
    """After some tries the rest is decoded plainly, and nothing more piles up; a new conversation tries again."""
    draft = FaultyDraft(MODEL, 10, failing=frozenset(range(STUMBLES)))
    made = faulty(FaultyTarget(MODEL, 10), draft)
    sequence = say(made, [1, 2, 3], 40)
    assert draft.failed == ["inject"] * STUMBLES
    assert sequence.severed
    assert sequence.stats.draft_n == 0
    assert made.drafter.pending(0) == 0
    assert say(made, [3, 2, 1], 10).stats.draft_n_accepted > 5


def test_confidences_that_are_no_numbers_cost_no_text() -> None:
    """The policy refuses them, and the round goes without drafts."""
    draft = FaultyDraft(MODEL, 10, confidence=float("nan"))
    sequence = say(faulty(FaultyTarget(MODEL, 10), draft, policy="auto"), [1, 2, 3], 60)
    assert sequence.tokens == alone([1, 2, 3], 60)
    assert sequence.stats.draft_n == 0
    assert sequence.stumbles > 0


def test_a_full_cache_forgets_what_nobody_uses() -> None:
    """Without room, what ended requests left behind goes, and nobody is lost."""
    made = faulty(FaultyTarget(MODEL, 10, n_slots=3, full=400), FaultyDraft(MODEL, 10, n_slots=3))
    say(made, [1] * 300, 4)
    sequence = say(made, [2] * 100, 20)
    assert sequence.tokens == alone([2] * 100, 20)
    assert sum(map(len, made.target.caches)) < 150


@dataclass
class Breaking:
    """A constraint that fails at its fifth token."""

    n: int = 0

    def allowed(self, tokens: np.ndarray) -> np.ndarray:
        return tokens >= 0

    def accept(self, token: int) -> None:
        del token
        self.n += 1
        if self.n == 5:
            raise BackendError("no such rule")

    def copy(self) -> Breaking:
        return Breaking(self.n)


@dataclass
class Stillborn(Breaking):
    """A constraint that cannot be begun."""

    def copy(self) -> Breaking:
        raise BackendError("no such grammar")


def test_a_request_that_never_begins_leaves_its_slot_as_it_says() -> None:
    """Though its beginning was put there before."""
    made = engine(MODEL, n_vocab=10)
    first = say(made, [1] * 100, 20)
    with pytest.raises(BackendError, match="no such grammar"):
        made.add([1] * 50, Sampler.of(SamplingParams(seed=1), constraint=Stillborn()), max_tokens=20)
    assert made.free == 1
    assert say(made, [*first.tokens, 2], 20).tokens == alone([*first.tokens, 2], 20)


def test_a_grammar_that_fails_costs_its_own_request() -> None:
    """The other one is whole."""
    made = engine(MODEL, n_vocab=10, slots=2)
    broken = made.add([1, 2], Sampler.of(SamplingParams(seed=1), constraint=Breaking()), max_tokens=20)
    whole = made.add([4] * 20, GREEDY, max_tokens=20)
    run(made)
    assert str(broken.error) == "no such rule"
    assert whole.tokens == alone([4] * 20, 20)
    assert say(made, [1, 2], 5).tokens == alone([1, 2], 5)
