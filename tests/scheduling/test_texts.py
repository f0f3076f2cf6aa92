"""What is kept of the texts in the slots."""

from __future__ import annotations

from dspark_local.scheduling.forecast import Forecast
from dspark_local.scheduling.policy import Request
from dspark_local.scheduling.texts import Texts


def after(*lengths: int) -> Texts:
    """One slot in which texts of these lengths ended, and another has begun."""
    texts = Texts()
    for n in (*lengths, 0):
        texts.foresee([Request(0, limit=999)], Forecast(7))
        texts[0].purse.tokens = n
    return texts


def test_how_long_texts_are_is_learned_and_short_ones_count_for_more() -> None:
    """Most texts are to be at least as long as it is believed that they are."""
    fresh = Texts().usual
    longer, shorter = after(200).usual - fresh, fresh - after(20).usual
    assert 0 < longer / (200 - fresh) < shorter / (fresh - 20) < 1
    assert after(200, 20, 200, 20).usual < fresh
    assert after(200).left(Request(0, limit=10)) == 10


def test_a_new_text_owes_nothing_of_the_one_before() -> None:
    """What the slot's blocks showed stays, in part; what the text lost does not."""
    texts = Texts()
    texts.foresee([Request(0, limit=999)], Forecast(7))
    texts[0].history.add([], 3, 0)
    texts[0].purse.add(1, 3.0)
    texts.foresee([Request(0, limit=99, rounds=1)], Forecast(7))
    assert texts[0].purse.ahead == -2
    texts.foresee([Request(0, limit=99)], Forecast(7))
    assert (texts[0].purse.ahead, texts[0].purse.most) == (0, 100)
    assert texts[0].history.first
    assert texts[0].history.trials[2] > 0
