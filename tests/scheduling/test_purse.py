"""How far a text may fall behind."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspark_local.scheduling.purse import Purse, faith


@given(st.floats(0, 1000), st.lists(st.tuples(st.integers(1, 8), st.floats(0.9, 4)), max_size=100))
def test_gains_add_to_it_and_losses_take_from_it(usual: float, rounds: list[tuple[int, float]]) -> None:
    """A text that spends no more than it holds is never further behind than its share, or 1.8 tokens and little."""
    purse = Purse(usual=usual)
    for tokens, plain in rounds:
        if plain - tokens <= purse.left():
            purse.add(tokens, plain)
    assert -purse.ahead <= max(1.8 + 0.003 * purse.tokens, 0.0185 * max(purse.tokens, min(usual, 128))) + 1e-9


def test_a_text_that_is_bound_to_be_short_may_lose_little() -> None:
    """Of 64 tokens 1.2, so that it ends at 0.98 of plain decoding; of 20 not even half of one."""
    assert Purse(most=64).left() == pytest.approx(1.184)
    assert Purse(most=20).left() < 0.5
    assert Purse(most=20).left(trusting=True) == Purse().left()
    assert Purse().left() == pytest.approx(1.8)


def test_where_drafting_pays_well_every_text_is_trusted_with_more() -> None:
    """From 1.25 times plain decoding on."""
    assert faith(1.2) == 0
    assert 0 < faith(1.4) < faith(2.0)
