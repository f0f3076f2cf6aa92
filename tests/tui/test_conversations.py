"""Conversations on the screen: kept, opened, edited, answered again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.widgets import Input, OptionList

from dspark_local.conversations import Conversations, Turn
from dspark_local.testing import scripted_runtime
from dspark_local.tui import Settings
from dspark_local.tui.screens.conversations import ConversationsScreen
from dspark_local.tui.widgets.message import Turn as Shown
from dspark_local.tui.widgets.message import UserMessage
from dspark_local.tui.widgets.transcript import MOST
from dspark_local.types import SamplingParams

from .driver import chatting

if TYPE_CHECKING:
    from pathlib import Path


LONG = "word " * 1000
SLOW = 0.02


def kept(store: Conversations, title: str, *contents: str) -> int:
    one = store.create(title, model="m", system="Old rules.", sampling=SamplingParams(seed=5))
    for i, content in enumerate(contents):
        store.add(one, Turn(role=("user", "assistant")[i % 2], content=content, thinking="hm" * (i % 2)))
    return one


def said(store: Conversations) -> list[str]:
    return [turn.content for turn in store.turns(store.find()[0].id)]


async def test_a_chat_is_saved_as_it_goes() -> None:
    """Question and answer are in the store when the answer ends, under a title that is the question."""
    with Conversations(None) as store:
        async with chatting(scripted_runtime("Yes."), store=store) as chat:
            await chat.ask("One?")
            assert said(store)[0] == "One?"
            await chat.answered()
            assert said(store) == ["One?", "Yes."]
            assert store.find()[0].title == "One?"


async def test_quitting_while_it_writes_saves_what_there_is(tmp_path: Path) -> None:
    """All that was on the screen is in the file."""
    path = tmp_path / "c.db"
    with Conversations(path) as store:
        async with chatting(scripted_runtime(LONG, seconds=SLOW), store=store) as chat:
            await chat.ask("Go")
            await chat.until(lambda: len(chat.answers[0].text) > 30)
            seen = chat.answers[0].text
            await chat.press("ctrl+q")
            await chat.until(lambda: not chat.app.is_running)
    with Conversations(path) as store:
        question, answer = said(store)
        assert question == "Go"
        assert answer.startswith(seen)


async def test_a_kept_conversation_is_opened_and_goes_on() -> None:
    """With its turns, its system message and its sampling; the next answer joins it."""
    with Conversations(None) as store:
        one = kept(store, "old", "One?", "*Yes*.")
        async with chatting(scripted_runtime("More."), store=store, settings=Settings(system="New rules.")) as chat:
            await chat.open("ctrl+o", ConversationsScreen)
            await chat.press("enter")
            await chat.until(lambda: bool(chat.answers))
            await chat.pilot.pause()
            assert "Yes." in chat.seen()
            assert "thinking · 1 word" in chat.seen()
            await chat.ask("Two?")
            await chat.answered()
            assert chat.dialogue.talk.messages[0].content == "Old rules."
            assert [t.content for t in store.turns(one)] == ["One?", "*Yes*.", "Two?", "More."]
            assert len(store.find()) == 1


async def test_the_list_searches_renames_and_deletes() -> None:
    """F2 and Enter give another title; F8 twice deletes, once does not."""
    with Conversations(None) as store:
        kept(store, "apples", "about apples")
        kept(store, "pears", "about pears")
        async with chatting(scripted_runtime(), store=store) as chat:
            screen = await chat.open("ctrl+o", ConversationsScreen)
            options = screen.query_one(OptionList)
            assert options.option_count == 2
            await chat.press(*"apple")
            await chat.until(lambda: options.option_count == 1)
            await chat.press("f2")
            screen.query_one(Input).value = ""
            await chat.press(*"fruit", "enter")
            await chat.until(lambda: {c.title for c in store.find()} == {"fruit", "pears"})
            assert screen.query_one(Input).value == "apple"
            await chat.press("f8", "down", "f8")
            await chat.pilot.pause()
            assert len(store.find()) == 2
            await chat.press("f8")
            await chat.until(lambda: [c.title for c in store.find()] == ["pears"])
            assert "nothing found" in chat.seen()
            await chat.press("escape")
            assert chat.screen


async def test_deleting_the_open_one_begins_anew() -> None:
    """Nothing is written to what is gone."""
    with Conversations(None) as store:
        async with chatting(scripted_runtime("Yes."), store=store) as chat:
            await chat.ask("One?")
            await chat.answered()
            await chat.open("ctrl+o", ConversationsScreen)
            await chat.press("f8", "f8", "escape")
            await chat.until(lambda: not chat.dialogue.talk.turns)
            await chat.ask("Two?")
            await chat.answered()
            assert said(store) == ["Two?", "Yes."]


async def test_a_message_is_edited_and_sent_again() -> None:
    """F2 goes back message by message; what came after it leaves the screen, and stays in the file."""
    with Conversations(None) as store:
        async with chatting(scripted_runtime("Yes."), store=store) as chat:
            for question in ("One?", "Two?"):
                await chat.ask(question)
                await chat.answered()
            await chat.press("f2")
            assert chat.prompt.text == "Two?"
            await chat.press("f2")
            assert chat.prompt.text == "One?"
            await chat.press("escape")
            assert chat.prompt.text == ""
            assert len(chat.answers) == 2
            await chat.press("f2", "f2", "X", "enter")
            await chat.until(lambda: said(store) == ["One?X", "Yes."])
            await chat.answered()
            assert len(chat.answers) == len(chat.screen.query(UserMessage)) == 1
            assert store.find("Two?")


async def test_answering_again_takes_other_noise() -> None:
    """The answer before makes room; the seed is kept, the choice is the next."""
    runtime, choices = scripted_runtime("Yes."), []
    begin = runtime.chat

    def listening(messages: object, sampling: SamplingParams, **options: object) -> object:
        choices.append((sampling.seed, sampling.choice))
        return begin(messages, sampling, **options)

    runtime.chat = listening
    settings = Settings(sampling=SamplingParams(temperature=1.0, seed=5))
    async with chatting(runtime, settings=settings) as chat:
        await chat.ask("One?")
        await chat.answered()
        await chat.press("ctrl+r")
        await chat.until(lambda: len(choices) == 2)
        await chat.answered()
        await chat.ask("Two?")
        await chat.answered()
        assert choices == [(5, 0), (5, 1), (5, 0)]
        assert [t.content for t in chat.dialogue.talk.turns] == ["One?", "Yes.", "Two?", "Yes."]


async def test_a_store_that_fails_is_told_once_and_the_chat_goes_on() -> None:
    """A full disk costs the record, not the conversation."""
    store = Conversations(None)
    async with chatting(scripted_runtime("Yes."), store=store) as chat:
        await chat.ask("One?")
        await chat.answered()
        store.close()
        await chat.ask("Two?")
        await chat.answered()
        await chat.until(lambda: len(chat.notices()) == 1)
        assert "not saved from here on" in chat.notices()[0]
        assert [t.content for t in chat.dialogue.talk.turns] == ["One?", "Yes.", "Two?", "Yes."]


async def test_of_a_long_conversation_the_end_is_shown_and_the_rest_on_demand() -> None:
    """So a frame costs no more in the hundredth turn; the model is given all of it."""
    with Conversations(None) as store:
        kept(store, "t", *(f"turn {n}" for n in range(101)))
        async with chatting(scripted_runtime("Yes."), store=store) as chat:
            await chat.press("ctrl+o")
            await chat.pilot.pause()
            await chat.press("enter")
            await chat.until(lambda: len(chat.dialogue.transcript.query(Shown)) == MOST)
            await chat.pilot.pause()
            assert "turn 100" in chat.seen()
            for shown in (2 * MOST, 101):
                chat.dialogue.transcript.jump(-MOST)
                await chat.press("alt+up")
                await chat.until(lambda most=shown: len(chat.dialogue.transcript.query(Shown)) == most)
            chat.dialogue.transcript.jump(200)
            for n in range(3):
                await chat.ask(f"more {n}")
                await chat.answered()
            assert len(chat.dialogue.transcript.query(Shown)) <= MOST + 6
            assert chat.dialogue.transcript.turn(106)
            assert len(chat.dialogue.talk.asked) == 1 + 106  # with the system message
