"""What a chat is set up with, and the messages that its prompt recalls."""

from __future__ import annotations

from textual.widgets import Input, Static, TextArea

from dspark_local.conversations import Conversations, Turn
from dspark_local.testing import scripted_runtime
from dspark_local.tui import Settings
from dspark_local.tui.screens.setup import SetupScreen
from dspark_local.types import SamplingParams

from .driver import chatting


async def test_a_chat_is_set_up_and_remembers_it() -> None:
    """System message and sampling hold from the next answer on, and are kept with the conversation."""
    with Conversations(None) as store:
        async with chatting(scripted_runtime("Yes."), store=store, size=(60, 20)) as chat:
            await chat.ask("One?")
            await chat.answered()
            screen = await chat.open("f9", SetupScreen)
            screen.query_one(TextArea).text = "Be brief."
            screen.query_one("#temperature", Input).value = "0.5"
            screen.query_one("#seed", Input).value = "7"
            await chat.press("ctrl+s")
            await chat.ask("Two?")
            await chat.answered()
            assert chat.dialogue.talk.messages[0].content == "Be brief."
            (kept,) = store.find()
            assert (kept.system, kept.sampling) == ("Be brief.", SamplingParams(temperature=0.5, seed=7))


async def test_a_number_that_is_none_is_told_in_the_form() -> None:
    """And one out of range; Esc changes nothing."""
    before = Settings(sampling=SamplingParams(top_k=4))
    async with chatting(scripted_runtime("Yes."), settings=before) as chat:
        screen = await chat.open("f9", SetupScreen)
        assert screen.query_one("#top_k", Input).value == "4"
        for written, why in (("warm", "temperature must be a number, not “warm”"), ("-1", "must be 0 or more")):
            screen.query_one("#temperature", Input).value = written
            await chat.press("ctrl+s")
            assert why in str(screen.query_one("#error", Static).content)
        await chat.press("escape")
        assert chat.dialogue.talk.settings == before


async def test_up_and_down_leaf_through_earlier_messages() -> None:
    """Of all conversations; what was being written comes back; within a message of two lines they move the cursor."""
    with Conversations(None) as store:
        one = store.create("t", model="m", system=None, sampling=SamplingParams())
        for content in ("first", "two\nlines"):
            store.add(one, Turn(role="user", content=content))
        async with chatting(scripted_runtime(), store=store) as chat:
            await chat.press(*"now", "up")
            assert chat.prompt.text == "two\nlines"
            await chat.press("up")
            assert chat.prompt.text == "two\nlines"
            await chat.press("up")
            assert chat.prompt.text == "first"
            await chat.press("up")
            assert chat.prompt.text == "first"
            await chat.press("down", "down")
            assert chat.prompt.text == "now"
            await chat.press("down")
            assert chat.prompt.text == "now"
