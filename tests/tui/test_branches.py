"""Versions of a turn, going on with an answer, and marks: what was left behind can be had again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.widgets import Collapsible

from dspark_local.conversations import Conversations, Turn
from dspark_local.testing import scripted_runtime
from dspark_local.tui import Settings
from dspark_local.tui.widgets.message import Place, UserMessage
from dspark_local.types import SamplingParams

from .driver import chatting

if TYPE_CHECKING:
    from .driver import Chat

LONG = "word " * 200
SLOW = 0.02
CODE = "Twice:\n\n```python\nprint(1)\n```\n\nand\n\n```python\nprint(2)\n```\n"


def forked(store: Conversations) -> int:
    """One question with two answers, the first of which was followed up."""
    one = store.create("t", model="m", system=None, sampling=None)
    asked = store.add(one, Turn(role="user", content="One?"))
    for content in ("Yes.", "Two?", "More."):
        store.add(one, Turn(role=("assistant", "user")[content == "Two?"], content=content))
    store.rewind(one, asked)
    store.add(one, Turn(role="assistant", content="No."))
    return one


def said(chat: Chat) -> list[str]:
    return [turn.content for turn in chat.dialogue.talk.turns]


def places(chat: Chat) -> list[str]:
    return [str(place.content) for place in chat.screen.query(Place) if place.display]


async def opened(chat: Chat) -> None:
    await chat.press("ctrl+o")
    await chat.pilot.pause()
    await chat.press("enter")
    await chat.until(lambda: bool(chat.answers))
    await chat.pilot.pause()


async def test_the_other_answer_comes_back_with_what_followed_it() -> None:
    """Alt+Left and Alt+Right leaf through the versions, and so it is kept; at either end nothing changes."""
    with Conversations(None) as store:
        one = forked(store)
        async with chatting(scripted_runtime("Yes."), store=store) as chat:
            await opened(chat)
            assert (said(chat), places(chat)) == (["One?", "No."], ["◂ 2/2 ▸"])
            await chat.press("alt+left")
            await chat.until(lambda: said(chat) == ["One?", "Yes.", "Two?", "More."])
            await chat.pilot.pause()
            assert "Two?" in chat.seen()
            assert places(chat) == ["◂ 1/2 ▸"]
            assert [turn.content for turn in store.turns(one)] == said(chat)
            await chat.press("alt+left")
            await chat.pilot.pause()
            assert said(chat)[1] == "Yes."
            await chat.press("alt+right")
            await chat.until(lambda: said(chat) == ["One?", "No."])


async def test_a_click_on_the_arrows_does_the_same() -> None:
    """The left one shows the version before."""
    with Conversations(None) as store:
        forked(store)
        async with chatting(scripted_runtime("Yes."), store=store) as chat:
            await opened(chat)
            place = next(place for place in chat.screen.query(Place) if place.display)
            await chat.pilot.click(place, offset=(1, 0))
            await chat.until(lambda: said(chat)[1] == "Yes.")


async def test_answering_again_makes_a_version_and_says_so() -> None:
    """Of answers, and of a message that was edited; with one version only, the keys say what makes another."""
    async with chatting(scripted_runtime("Yes.")) as chat:
        await chat.ask("One?")
        await chat.answered()
        await chat.press("alt+left")
        await chat.until(lambda: "one version only" in "".join(chat.notices()))
        await chat.press("ctrl+r")
        await chat.until(lambda: places(chat) == ["◂ 2/2 ▸"])
        await chat.press("f2", "X", "enter")
        await chat.until(lambda: said(chat)[0] == "One?X")
        await chat.answered()
        assert places(chat) == ["◂ 2/2 ▸"]
        assert isinstance(chat.screen.query(Place).first().parent, UserMessage)


async def test_an_answer_that_was_stopped_goes_on() -> None:
    """In its place, to the whole text; the model is given what it wrote, and nothing twice."""
    async with chatting(scripted_runtime(LONG, seconds=SLOW), settings=Settings(max_tokens=40)) as chat:
        await chat.ask("Go")
        await chat.answered()
        assert "f7 goes on" in chat.summary()
        assert chat.answers[0].text == LONG[:40]
        await chat.press("f7")
        await chat.until(lambda: len(chat.answers[0].text) == 80)
        await chat.answered()
        assert len(chat.answers) == 1
        assert chat.answers[0].text == said(chat)[1] == LONG[:80]
        await chat.press("f7")
        await chat.until(lambda: len(chat.answers[0].text) > 82)
        await chat.press("escape")
        await chat.answered()
        assert LONG.startswith(said(chat)[1])


async def test_an_answer_goes_on_within_its_thoughts() -> None:
    """Cut in the middle of thinking, the rest of the thought is thought, and the text behind it text."""
    answer = "<think>so it is, surely</think>Yes, it is."
    cut = len("<think>so it")
    async with chatting(scripted_runtime(answer), settings=Settings(max_tokens=cut)) as chat:
        await chat.ask("Go")
        await chat.answered()
        chat.dialogue.talk.settings = Settings()
        await chat.press("f7")
        await chat.until(lambda: chat.answers[0].text == "Yes, it is.")
        await chat.answered()
        turn = chat.dialogue.talk.turns[1]
        assert (turn.thinking, turn.content) == ("so it is, surely", "Yes, it is.")
        assert chat.answers[0].query_one(Collapsible).title == "thinking · 4 words"
        await chat.press("ctrl+t")
        await chat.pilot.pause()
        assert chat.answers[0].prose.document.blocks[0].content.plain == "Yes, it is."


async def test_a_failure_while_it_goes_on_keeps_the_answer() -> None:
    """The question does not come back, for it was answered, as far as it goes."""
    runtime = scripted_runtime(LONG)
    async with chatting(runtime, settings=Settings(max_tokens=40)) as chat:
        await chat.ask("Go")
        await chat.answered()
        target = runtime._engine.target
        target.fail_at = len(target.decodes) + 3
        await chat.press("f7")
        await chat.until(lambda: "the scripted decode failed" in chat.seen())
        assert chat.prompt.text == ""
        assert said(chat)[1].startswith(LONG[:40])
        await chat.press("f7")
        await chat.until(lambda: len(said(chat)[1]) >= 80)


async def test_what_is_marked_is_what_keys_work_on() -> None:
    """Alt+Up marks message by message, and copying and editing take the marked one; Esc and the end leave the mark."""
    async with chatting(scripted_runtime("Yes.")) as chat:
        for question in ("One?", "Two?"):
            await chat.ask(question)
            await chat.answered()
        await chat.press(*["alt+up"] * 4)
        assert chat.dialogue.transcript.marked.turn == 0
        await chat.press("f2")
        assert chat.prompt.text == "One?"
        await chat.press("escape", "escape")
        assert chat.dialogue.transcript.marked is None
        await chat.press("alt+up")
        assert chat.dialogue.transcript.marked.turn == 3
        await chat.press("alt+down")
        assert chat.dialogue.transcript.marked is None


async def test_code_blocks_are_jumped_to_and_copied() -> None:
    """F8 copies the marked one."""
    async with chatting(scripted_runtime(CODE)) as chat:
        await chat.ask("How?")
        await chat.answered()
        await chat.press("ctrl+up", "ctrl+up", "f8")
        assert chat.app.clipboard.rstrip("\n") == "print(1)"
        await chat.press("ctrl+down", "f8")
        assert chat.app.clipboard.rstrip("\n") == "print(2)"


async def test_a_version_goes_on_with_its_own_noise() -> None:
    """The first answer is choice 0 when it goes on too, whichever came later; another one takes the next number."""
    runtime, choices = scripted_runtime("Yes, it is."), []
    begin = runtime.chat

    def listening(messages: object, sampling: SamplingParams, **options: object) -> object:
        choices.append((sampling.choice, options["begun"]))
        return begin(messages, sampling, **options)

    runtime.chat = listening
    settings = Settings(sampling=SamplingParams(temperature=1.0, seed=5), max_tokens=4)
    async with chatting(runtime, settings=settings) as chat:
        await chat.ask("One?")
        await chat.answered()
        await chat.press("ctrl+r")
        await chat.until(lambda: len(choices) == 2)
        await chat.answered()
        await chat.press("alt+left", "f7")
        await chat.until(lambda: len(choices) == 3)
        await chat.answered()
        assert choices == [(0, ""), (1, ""), (0, "Yes,")]
