"""Long texts in the prompt: seen as a mark, sent whole."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from textual.events import Paste

from dspark_local.testing import scripted_runtime
from dspark_local.tui.folds import MOST, Folds
from dspark_local.tui.widgets.message import ErrorMessage

from .driver import chatting

LONG = "a line of a log\n" * 70_000  # a megabyte
texts = st.text(max_size=20).map(lambda text: text * (2 * MOST // max(1, len(text)) if text.endswith("a") else 1))


@given(st.lists(st.tuples(st.text(max_size=5), texts), max_size=4))
def test_what_was_folded_comes_back_whole(parts: list[tuple[str, str]]) -> None:
    """Whatever stands around the marks; and no mark is longer than a line of them."""
    folds = Folds()
    folded = "".join(typed + folds.fold(pasted) for typed, pasted in parts)
    assert folds.unfold(folded) == "".join(typed + pasted for typed, pasted in parts)
    assert all(len(folds.fold(pasted)) <= MOST for _, pasted in parts)


def test_what_was_pasted_is_not_read_for_marks() -> None:
    """A text that holds the name of another is not filled in."""
    folds = Folds()
    one, two = folds.fold(LONG), folds.fold("[text 1: 70,000 lines]" + "x" * MOST)
    assert one == "[text 1: 70,000 lines]"
    assert folds.unfold(two) == "[text 1: 70,000 lines]" + "x" * MOST


async def test_a_megabyte_is_a_mark_in_the_prompt_and_comes_back_as_one() -> None:
    """Pasted, refused because no context holds it, and pasted back: the screen never has to wrap it."""
    async with chatting(scripted_runtime("Yes.")) as chat:
        chat.prompt.insert("Sum up ")
        chat.app.post_message(Paste(LONG))
        await chat.until(lambda: chat.prompt.text == "Sum up [text 1: 70,000 lines]")
        await chat.press("enter")
        await chat.until(lambda: bool(chat.screen.query(ErrorMessage)))
        await chat.until(lambda: "the context holds" in chat.seen())
        assert chat.prompt.text == "[text 2: 70,000 lines]"
        assert chat.prompt._folds.unfold(chat.prompt.text) == f"Sum up {LONG}".strip("\n")


async def test_the_model_gets_what_a_mark_stands_for() -> None:
    """And to edit the message is to see the mark again."""
    text = "x" * (MOST + 1)
    async with chatting(scripted_runtime("Yes.", n_ctx=2 * MOST)) as chat:
        chat.app.post_message(Paste(text))
        await chat.until(lambda: chat.prompt.text == "[text 1: 1 line]")
        await chat.press("enter")
        await chat.until(lambda: bool(chat.answers))
        await chat.answered()
        assert chat.dialogue.talk.turns[0].content == text
        await chat.press("f2")
        await chat.until(lambda: chat.prompt.text == "[text 2: 1 line]")
