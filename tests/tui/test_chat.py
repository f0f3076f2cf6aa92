"""The chat screen, on a runtime without a model."""

from __future__ import annotations

import gc
import threading
from typing import TYPE_CHECKING, Any

import pytest
from textual._styles_cache import StylesCache
from textual.widget import Widget
from textual.widgets import Collapsible, Digits, Sparkline, Static

from dspark_local.backend.scripted import ScriptedTarget
from dspark_local.testing import scripted_runtime
from dspark_local.tui import Settings
from dspark_local.tui.screens.help import HelpScreen
from dspark_local.tui.widgets.bars import Bars
from dspark_local.tui.widgets.facts import Facts
from dspark_local.tui.widgets.message import MOST_SHOWN, ErrorMessage, UserMessage
from dspark_local.tui.widgets.stats import StatsPanel
from dspark_local.types import SamplingParams

from .driver import PATIENCE, Chat, chatting

if TYPE_CHECKING:
    from dspark_local.generation import Generation

ANSWER = "It removes *common* margins.\n\n```python\nprint(1)\n```\n"
LONG = "word " * 1000
SLOW = 0.02  # seconds a decode: an answer of LONG then outlasts what a test does meanwhile


async def test_an_answer_is_streamed_and_its_figures_stand_below_it() -> None:
    """The whole text arrives, rendered as Markdown, with a line of statistics."""
    async with chatting(scripted_runtime(ANSWER)) as chat:
        await chat.ask("What?")
        await chat.answered()
        assert chat.answers[0].text == ANSWER
        seen = chat.seen()
        assert "It removes common margins." in seen
        assert "print(1)" in seen
        assert "```" not in seen
        assert f"{len(ANSWER) + 1} tokens" in seen


async def test_text_and_figures_move_while_it_writes() -> None:
    """Before the answer is over, there is a part of it, an accepted length and a speed."""
    async with chatting(scripted_runtime(LONG, seconds=SLOW)) as chat:
        await chat.ask("Go")
        await chat.until(lambda: bool(chat.answers and len(chat.answers[0].text) > 20))
        assert chat.dialogue.answering
        first = chat.answers[0].text
        panel = chat.screen.query_one(StatsPanel)
        assert float(panel.query_one("#accepted-length", Digits).value) > 1
        assert panel.query_one(Bars).shares[0] is not None
        assert panel.query_one(Sparkline).data
        drafted = dict(panel.query_one("#round", Facts).rows)["drafted"]
        await chat.until(lambda: len(chat.answers[0].text) > len(first))
        await chat.until(lambda: dict(panel.query_one("#round", Facts).rows)["drafted"] != drafted)


@pytest.mark.parametrize("key", ["escape", "ctrl+c"])
async def test_stopping_keeps_the_text(key: str) -> None:
    """Esc and Ctrl+C end the answer, not the program; what there is stays and is part of the conversation."""
    async with chatting(scripted_runtime(LONG, seconds=SLOW)) as chat:
        await chat.ask("Go")
        await chat.until(lambda: bool(chat.answers and chat.answers[0].text))
        await chat.press(key)
        await chat.answered()
        kept = chat.answers[0].text
        assert kept
        assert LONG.startswith(kept)
        assert len(kept) < len(LONG)
        assert "stopped" in chat.seen()
        assert chat.app.is_running
        assert [t.content for t in chat.dialogue.talk.turns] == ["Go", kept]


async def test_stopping_is_answered_at_once_however_long_a_decode_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a prompt or of an answer: the screen says that it stops while the decode still runs, and ends with it."""
    decode, began, over = ScriptedTarget.decode, threading.Event(), threading.Event()

    def slowly(*arguments: Any) -> Any:
        began.set()
        over.wait(PATIENCE)
        return decode(*arguments)

    monkeypatch.setattr(ScriptedTarget, "decode", slowly)
    async with chatting(scripted_runtime(LONG)) as chat:
        await chat.ask("Go")
        await chat.until(began.is_set)
        assert chat.summary() == "reading the prompt …"
        await chat.press("escape")
        assert chat.summary() == "stopping …"
        assert chat.dialogue.answering
        over.set()
        await chat.answered()
        assert "stopped" in chat.summary()


@pytest.mark.parametrize("key", ["escape", "ctrl+n"])
async def test_an_answer_can_be_stopped_before_it_has_begun(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a long text is tokenised the screen obeys, and the generation that comes of it is cancelled."""
    runtime, go, made = scripted_runtime(LONG, seconds=SLOW), threading.Event(), []
    chat_now = runtime.chat

    def slowly(*arguments: Any, **options: Any) -> Generation:
        go.wait(PATIENCE)
        made.append(chat_now(*arguments, **options))
        return made[0]

    monkeypatch.setattr(runtime, "chat", slowly)
    async with chatting(runtime) as chat:
        await chat.ask("Go")
        await chat.press(key)
        go.set()
        await chat.until(lambda: bool(made) and made[0].cancelled)
        await chat.answered()
        assert chat.app.is_running


async def test_a_second_turn_carries_the_first() -> None:
    """The model gets the whole conversation, its own answer included."""
    async with chatting(scripted_runtime("Yes.")) as chat:
        await chat.ask("One?")
        await chat.answered()
        alone = chat.screen.query_one("#pair", Facts).rows
        await chat.ask("Two?")
        await chat.answered()
        assert [a.text for a in chat.answers] == ["Yes.", "Yes."]
        assert [(t.role, t.content) for t in chat.dialogue.talk.turns] == [
            ("user", "One?"),
            ("assistant", "Yes."),
            ("user", "Two?"),
            ("assistant", "Yes."),
        ]
        assert chat.screen.query_one("#pair", Facts).rows != alone


async def test_ctrl_j_breaks_the_line_and_enter_sends_it() -> None:
    """A message of several lines is one message, and the prompt is empty behind it."""
    async with chatting(scripted_runtime("Yes.")) as chat:
        await chat.press(*"one", "ctrl+j", *"two")
        assert chat.prompt.text == "one\ntwo"
        await chat.press("enter")
        await chat.until(lambda: bool(chat.answers))
        await chat.answered()
        assert chat.dialogue.talk.turns[0].content == "one\ntwo"
        assert chat.prompt.text == ""


async def test_an_empty_prompt_is_not_sent() -> None:
    """Enter on nothing, or on spaces, does nothing."""
    async with chatting(scripted_runtime()) as chat:
        await chat.press("enter", "space", "enter")
        await chat.pilot.pause()
        assert not chat.answers


async def test_a_message_sent_too_soon_stays_in_the_prompt() -> None:
    """Sending while it answers is refused, and costs no text."""
    async with chatting(scripted_runtime(LONG, seconds=SLOW)) as chat:
        await chat.ask("Go")
        chat.prompt.insert("more")
        await chat.press("enter")
        await chat.until(lambda: chat.prompt.text == "more")
        assert len(chat.screen.query(UserMessage)) == 1
        await chat.press("escape")
        await chat.answered()


async def test_a_huge_paste_is_sent_whole_and_shown_in_part() -> None:
    """The screen is spared what nobody reads; the model gets all of it."""
    text = "x" * (MOST_SHOWN + 500)
    async with chatting(scripted_runtime("Yes.", n_ctx=8192)) as chat:
        chat.prompt.insert(text)
        await chat.press("enter")
        await chat.until(lambda: bool(chat.answers))
        await chat.answered()
        assert chat.dialogue.talk.turns[0].content == text
        shown = str(chat.screen.query_one(UserMessage)._shown)
        assert "500 characters more" in shown
        assert len(shown) < MOST_SHOWN + 100


async def test_what_the_user_writes_is_not_markup() -> None:
    """Square brackets are text."""
    async with chatting(scripted_runtime("Yes.")) as chat:
        await chat.ask("[bold]a[/bold] [/x]")
        await chat.answered()
        assert "[bold]a[/bold] [/x]" in chat.seen()


async def test_a_failure_is_a_message_with_a_way_on() -> None:
    """A decode that fails leaves its text, one line that says why, and the question, which can be sent again."""
    async with chatting(scripted_runtime(LONG, seconds=SLOW, fail_at=10)) as chat:
        await chat.ask("Go")
        await chat.answered()
        assert chat.answers[0].text
        assert "the scripted decode failed" in chat.seen()
        assert chat.prompt.text == "Go"
        assert chat.dialogue.talk.turns == []
        await chat.press("enter")
        await chat.until(lambda: len(chat.answers) == 2 and bool(chat.answers[1].text))
        await chat.press("escape")
        await chat.answered()


async def test_a_bug_is_a_message_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception that nobody foresaw does not take the screen down."""
    runtime = scripted_runtime("Yes.")

    async def broken(_generation: object) -> None:
        raise ValueError("surprise")
        yield

    async with chatting(runtime) as chat:
        monkeypatch.setattr("dspark_local.runtime.Generation.__aiter__", broken)
        await chat.press(*"Go", "enter")
        await chat.until(lambda: bool(chat.screen.query(ErrorMessage)))
        assert "ValueError: surprise" in chat.seen()
        assert not chat.dialogue.answering


async def test_a_prompt_beyond_the_context_is_a_message() -> None:
    """What the runtime refuses at once is told like any failure."""
    async with chatting(scripted_runtime("Yes.", n_ctx=64)) as chat:
        chat.prompt.insert("y" * 100)
        await chat.press("enter")
        await chat.until(lambda: bool(chat.screen.query(ErrorMessage)))
        assert "the context holds" in chat.seen()
        assert chat.prompt.text == "y" * 100


async def test_a_full_context_says_so() -> None:
    """An answer that fills the context ends with the way on."""
    async with chatting(scripted_runtime(LONG, n_ctx=128)) as chat:
        await chat.ask("Go")
        await chat.answered()
        assert "the context is full: ctrl+n starts a new chat" in chat.summary()


async def test_thinking_is_folded_and_counted() -> None:
    """What stands between the think tags is not part of the answer."""
    async with chatting(scripted_runtime("<think>so it is</think>Yes.")) as chat:
        await chat.ask("Go")
        await chat.answered()
        folded = chat.answers[0].query_one(Collapsible)
        assert folded.display
        assert folded.collapsed
        assert folded.title == "thinking · 3 words"
        assert chat.answers[0].text == "Yes."


@pytest.mark.parametrize("key", ["ctrl+n", "ctrl+l"])
async def test_a_new_chat_forgets_even_what_is_being_written(key: str) -> None:
    """The old answer ends, and none of it reaches the new conversation."""
    async with chatting(scripted_runtime(LONG, seconds=SLOW)) as chat:
        await chat.ask("Go")
        await chat.until(lambda: bool(chat.answers and chat.answers[0].text))
        await chat.press(key)
        await chat.until(lambda: not chat.answers)
        assert not chat.dialogue.answering
        assert chat.dialogue.talk.turns == []
        await chat.ask("Again")
        await chat.until(lambda: bool(chat.answers[0].text))
        assert LONG.startswith(chat.answers[0].text)
        await chat.press("escape")
        await chat.answered()


async def test_the_panel_gives_way_on_a_narrow_terminal() -> None:
    """Below 80 columns the panel is hidden and the heading has the figures; Ctrl+B shows it all the same."""
    async with chatting(scripted_runtime(ANSWER), size=(60, 20)) as chat:
        panel = chat.screen.query_one(StatsPanel)
        assert not panel.display
        await chat.ask("What?")
        await chat.answered()
        assert "accepted length" in chat.seen().splitlines()[0]
        await chat.press("ctrl+b")
        assert panel.display
        await chat.press("ctrl+b")
        assert not panel.display


async def test_the_panel_stands_beside_on_a_wide_terminal() -> None:
    """At 80 columns and more it is there, until Ctrl+B hides it."""
    async with chatting(scripted_runtime(), size=(80, 24)) as chat:
        assert chat.screen.query_one(StatsPanel).display
        assert "ACCEPTED LENGTH" in chat.seen()
        await chat.press("ctrl+b")
        await chat.pilot.pause()
        assert "ACCEPTED LENGTH" not in chat.seen()


async def test_without_a_drafter_the_panel_makes_nothing_up() -> None:
    """Plain decoding has a speed, and no acceptance."""
    async with chatting(scripted_runtime(ANSWER, drafter=False)) as chat:
        await chat.ask("What?")
        await chat.answered()
        assert chat.screen.query_one(Bars).shares == ()
        assert dict(chat.screen.query_one("#round", Facts).rows)["drafted"] == "0"
        assert dict(chat.screen.query_one("#pair", Facts).rows)["drafter"] == "none"


async def test_help_lists_the_keys_that_work_now() -> None:
    """Stop is listed only while there is something to stop."""
    async with chatting(scripted_runtime(LONG, seconds=SLOW)) as chat:
        await chat.press("f1")
        assert isinstance(chat.app.screen, HelpScreen)
        idle = keys(chat)
        assert {"Send", "New line", "New chat", "Panel", "Help", "Quit"} <= set(idle)
        assert "Stop" not in idle
        assert idle["New chat"] == "^n, ^l"
        await chat.press("escape")
        await chat.ask("Go")
        await chat.press("f1")
        assert keys(chat)["Stop"] == "esc"
        await chat.press("escape", "escape")
        await chat.answered()


def keys(chat: Chat) -> dict[str, str]:
    """What the help says: keys by what they do."""
    lines = str(chat.app.screen.query_one("#keys", Static).content).splitlines()
    return {what.strip(): pressed for pressed, what in (line.split("  ", 1) for line in lines)}


async def test_typing_goes_to_the_prompt_wherever_the_focus_is() -> None:
    """A click elsewhere does not swallow the next key."""
    async with chatting(scripted_runtime()) as chat:
        chat.screen.set_focus(None)
        await chat.press("h", "i")
        assert chat.prompt.text == "hi"


async def test_ctrl_c_when_idle_says_how_to_leave() -> None:
    """It neither quits nor does nothing."""
    async with chatting(scripted_runtime()) as chat:
        await chat.press("ctrl+c")
        await chat.until(lambda: chat.notices() == ["Ctrl+Q leaves; Ctrl+C stops an answer."])
        assert chat.app.is_running


async def test_ctrl_d_quits_only_from_an_empty_prompt() -> None:
    """With text it deletes, as in a shell."""
    async with chatting(scripted_runtime()) as chat:
        await chat.press("a", "b", "home", "ctrl+d")
        assert chat.prompt.text == "b"
        assert chat.app.is_running
        await chat.press("ctrl+d", "ctrl+d")
        await chat.pilot.pause()
        assert not chat.app.is_running


async def test_quitting_while_it_writes_ends_cleanly() -> None:
    """The generation is cancelled and the runtime closed; nothing hangs."""
    runtime = scripted_runtime(LONG, seconds=SLOW)
    async with chatting(runtime) as chat:
        await chat.ask("Go")
        await chat.until(lambda: bool(chat.answers and chat.answers[0].text))
        generation = chat.dialogue._writing._generation
        assert generation
        await chat.press("ctrl+q")
        await chat.until(lambda: not chat.app.is_running)
    assert generation._job.end or generation.cancelled
    assert not runtime._worker._thread.is_alive()


async def test_settings_reach_the_runtime() -> None:
    """System message, sampling and the most tokens are those that the user chose."""
    settings = Settings(sampling=SamplingParams(temperature=0.5, seed=7), max_tokens=3, system="Be brief.")
    async with chatting(scripted_runtime("abcdef"), settings=settings) as chat:
        await chat.ask("Go")
        await chat.answered()
        assert chat.answers[0].text == "abc"
        assert chat.dialogue.talk.messages[0].content == "Be brief."
        assert dict(chat.screen.query_one("#pair", Facts).rows)["seed"] == "7"
        assert "cut at the most tokens allowed" in chat.summary()


async def test_what_left_the_screen_leaves_memory() -> None:
    """Textual's own footer kept every key that it ever showed, and a cache of its own the lines of 1024 widgets."""
    async with chatting(scripted_runtime("Yes.")) as chat:
        for question in "ab":
            await chat.ask(question)
            await chat.answered()
        await chat.press("ctrl+n")
        await chat.until(lambda: not chat.answers)
        await chat.pilot.pause()
        gc.collect()
        kept = [found for found in gc.get_objects() if isinstance(found, Widget) and found.app is chat.app]
        assert not [widget for widget in kept if not widget.is_attached]
        lines = {id(widget._styles_cache) for widget in kept}
        assert not [found for found in gc.get_objects() if isinstance(found, StylesCache) and id(found) not in lines]
