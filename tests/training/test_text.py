"""Texts, batches of them, and rounds replayed on them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dspark_local.training.replay import Tally
from dspark_local.training.text import Batch, Text, batches

if TYPE_CHECKING:
    from collections.abc import Iterable

def sized(prompt: int, answer: int, ended: bool, temperature: float) -> Text:
    """Ids of which no two neighbours are alike, so that a batch that takes the wrong ones shows it."""
    ids = [(prompt * 7 + answer * 3 + 5 * i) % 99 for i in range(prompt + answer)]
    return Text.said(ids[:prompt], ids[prompt:], ended=ended, temperature=temperature)


texts = st.lists(
    st.builds(sized, st.integers(1, 40), st.integers(1, 90), st.booleans(), st.sampled_from([0.0, 1.0])),
    min_size=1,
    max_size=30,
)


@given(texts)
def test_a_text_is_read_as_it_was_written(said: list[Text]) -> None:
    assert [Text.of(text.line()) for text in said] == said


@given(texts, st.integers(0, 5))
def test_batches_hold_every_text_once_within_their_size(said: list[Text], seed: int) -> None:
    made = batches(said, range(len(said)), tokens=256, seed=(seed,))
    assert sorted(i for batch in made for i in batch.texts) == list(range(len(said)))
    for batch in made:
        assert batch.ids.size <= 256 or len(batch.texts) == 1
        for row, i in enumerate(batch.texts):
            assert batch.ids[row, : len(said[i])].tolist() == said[i].tokens.tolist()
            assert batch.learn[row].sum() == len(said[i].answer)
            assert batch.learn[row, len(said[i].prompt)]


@given(texts)
def test_the_same_seed_draws_the_same_batches(said: list[Text]) -> None:
    first, second = (batches(said, range(len(said)), tokens=256, seed=(3, 1)) for _ in range(2))
    assert [b.texts for b in first] == [b.texts for b in second]


def said(answer: Iterable[int], prompt: Iterable[int] = (1,)) -> Text:
    return Text.said(prompt, answer, ended=True, temperature=0.0)


def test_text_that_loops_or_is_short_teaches_nothing() -> None:
    assert said(range(40)).teaches
    assert not said((5, 6, 7, 8) * 10).teaches
    assert not said((5, 6)).teaches


def test_rounds_by_hand() -> None:
    """Accepted 2 of 3, so 3 tokens; then none, 1 token; then a block that the end of the text cuts."""
    agreed = np.array([[1, 1, 0], [0, 1, 1], [1, 1, 1], [0, 0, 1], [1, 1, 1], [1, 0, 0]], bool)
    found = Tally.of([agreed], 3)
    assert (found.rounds, found.tokens) == (3, 6)
    assert found.accepted.tolist() == [2, 2, 1]
    assert found.accepted_length == 2.0


@given(st.integers(1, 30), st.integers(1, 8))
def test_bounds_of_the_accepted_length(n: int, gamma: int) -> None:
    """Nothing agreed: a token a round. Everything: γ + 1, but for the end."""
    assert Tally.of([np.zeros((n, gamma), bool)], gamma).accepted_length == 1
    whole = Tally.of([np.ones((n, gamma), bool)], gamma)
    assert (whole.tokens, whole.rounds) == (n, -(-n // (gamma + 1)))


def test_padding_is_never_learned() -> None:
    batch = Batch.of([said((2, 3)), said((3, 4, 5), (1, 2))], [0, 1], step=4)
    assert batch.ids.shape == (2, 8)
    assert not batch.learn[0, 3:].any()
