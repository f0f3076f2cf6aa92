"""Rounds that do not draft cost the drafter nothing, and it catches up when they end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st

from dspark_local.backend.scripted import random_logits
from dspark_local.drafters import dspark
from dspark_local.scheduling.policy import Fixed, Plan
from tests.engine.harness import engine, say

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pytest

    from dspark_local.scheduling.policy import Request


@dataclass(slots=True)
class Wavering(Fixed):
    """Drafts in the rounds that a pattern names, over and over."""

    pattern: tuple[bool, ...] = (True,)
    rounds: int = 0

    def plan(self, requests: Sequence[Request]) -> Plan:
        self.rounds += 1
        if not self.pattern[self.rounds % len(self.pattern)]:
            return Plan()
        return Fixed.plan(self, requests)


@settings(max_examples=200, deadline=None)
@given(
    pattern=st.lists(st.booleans(), min_size=1, max_size=9),
    prompt=st.integers(1, 60),
    n_batch=st.integers(5, 40),
)
def test_parking_changes_nothing_but_the_work(pattern: list[bool], prompt: int, n_batch: int) -> None:
    """Whenever it parks, the text is the plain one; a perfect drafter is still perfect after catching up."""
    model = random_logits(10, seed=3)
    parking = engine(model, model, n_vocab=10, gamma=3, n_batch=64)
    parking.policy = Wavering(3, tuple(pattern))
    parking.drafter._draft.n_batch = n_batch  # rows come in several injections
    sequence = say(parking, [1] * prompt, 40)
    assert sequence.tokens == say(engine(model, n_vocab=10), [1] * prompt, 40).tokens
    assert sequence.stats.draft_n == sequence.stats.draft_n_accepted


def test_a_parked_drafter_decodes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """No injection while parked, until more rows wait than it may hold."""
    model = random_logits(10, seed=3)
    parked = engine(model, model, n_vocab=10)
    parked.policy = Wavering(3, (False,))
    say(parked, [1] * 20, 30)
    assert parked.drafter._draft.caches == [[]]
    assert parked.drafter.pending(0) == 49
    monkeypatch.setattr(dspark, "MOST_PENDING", 16)
    say(parked, [2] * 20, 30)
    assert len(parked.drafter._draft.caches[0]) + parked.drafter.pending(0) == 49
    assert parked.drafter.pending(0) <= 16
