"""Slash commands: one table, obeyed, completed and explained."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from textual.widgets import Static

from dspark_local.conversations import Conversations
from dspark_local.errors import UsageError
from dspark_local.scheduling.policies import Threshold
from dspark_local.scheduling.policy import Fixed
from dspark_local.testing import scripted_runtime
from dspark_local.tui.commands import COMMANDS, completion, given
from dspark_local.tui.screens.help import HelpScreen
from dspark_local.tui.screens.models import ModelsScreen
from dspark_local.tui.screens.race import RaceScreen
from dspark_local.tui.screens.setup import SetupScreen
from dspark_local.tui.widgets.offers import Offers
from dspark_local.types import SamplingParams

from .driver import Chat, chatting

if TYPE_CHECKING:
    from pathlib import Path

LONG = "word " * 1000
VALUES = {"POLICY": lambda: ["plain", "fixed:2", "fixed:3"], "NAME": lambda: ["demo"]}


async def typed(chat: Chat, text: str) -> None:
    chat.prompt.insert(text)
    await chat.press("enter")
    await chat.pilot.pause()


def test_a_message_is_a_command_by_its_first_word() -> None:
    """In full, or as far as only one fits; what follows is its argument, lines and all."""
    assert [given(text)[0].name for text in ("/new", "/n", "/temp 0.5", "/mac")] == ["new", "new", "temp", "machine"]
    assert given("/system Be brief.\nAlways.")[1] == "Be brief.\nAlways."
    assert given("/tem  0.5 ")[1] == "0.5"


def test_what_is_no_command_is_text() -> None:
    """A path, a space before the slash, a slash within."""
    assert [given(text) for text in ("/etc/passwd is what?", " /new", "a /new", "hello", "//")] == [None] * 5


@pytest.mark.parametrize("text", ["/nonsense", "/", "/nonsense at all"])
def test_an_unknown_command_is_told(text: str) -> None:
    """With what lists those that there are."""
    with pytest.raises(UsageError, match=rf"no command {text.split(maxsplit=1)[0]}; /help lists"):
        given(text)


def test_of_several_that_fit_each_is_named() -> None:
    """Rather than one of them taken."""
    with pytest.raises(UsageError, match="did you mean /temp or /tint or /theme"):
        given("/t 1")


def test_names_and_arguments_are_completed() -> None:
    """The first name that fits; of an argument what all have in common; nothing where nothing is known."""
    assert completion("/mo", VALUES) == "del "
    assert completion("/rac", VALUES) == "e"
    assert completion("/policy f", VALUES) == "ixed:"
    assert completion("/model d", VALUES) == "emo"
    assert [completion(text, VALUES) for text in ("/temp 0", "hello", "/xyz", "/policy x", "/t d")] == [""] * 5


async def test_every_command_has_an_action_and_stands_in_the_help() -> None:
    """Of the dialogue, the screen or the program; the help lists each by its name."""
    async with chatting(scripted_runtime("Yes."), size=(100, 60)) as chat:
        owners = (chat.dialogue, chat.screen, chat.app)
        for command in COMMANDS:
            assert any(hasattr(owner, f"action_{command.action}") for owner in owners), command.name
        await typed(chat, "/help")
        assert isinstance(chat.app.screen, HelpScreen)
        explained = str(chat.app.screen.query_one("#commands", Static).content)
        assert all(f"/{command.name}" in explained for command in COMMANDS)


async def test_a_slash_offers_what_it_may_become() -> None:
    """While it is typed; Tab completes, and the offers go with the text."""
    async with chatting(scripted_runtime("Yes.")) as chat:
        await chat.press(*"/mod")
        offers = chat.screen.query_one(Offers)
        await chat.until(lambda: offers.display)
        assert "load another model" in str(offers.content)
        await chat.press("tab")
        assert chat.prompt.text == "/model "
        await chat.press("ctrl+u")
        await chat.until(lambda: not offers.display)


async def test_a_chat_is_set_up_by_commands() -> None:
    """System message, temperature, seed and title are kept with it; what is no number is told, and changes nothing."""
    with Conversations(None) as store:
        async with chatting(scripted_runtime("Yes."), store=store) as chat:
            await chat.ask("One?")
            await chat.answered()
            for text in ("/system Be brief.", "/temp 0.5", "/seed 7", "/temp warm", "/rename better"):
                await typed(chat, text)
            await chat.until(lambda: any("not “warm”" in notice for notice in chat.notices()))
            (kept,) = store.find()
            assert (kept.title, kept.system) == ("better", "Be brief.")
            assert kept.sampling == SamplingParams(temperature=0.5, seed=7)
            await typed(chat, "/seed")
            assert chat.dialogue.sampling == SamplingParams(temperature=0.5)


async def test_a_policy_is_exchanged_in_place() -> None:
    """Those that reckon with no costs; a name that there is not is told."""
    runtime = scripted_runtime("Yes.")
    async with chatting(runtime) as chat:
        await typed(chat, "/policy plain")
        assert runtime.policy == Fixed(0)
        await typed(chat, "/policy threshold:0.5")
        assert runtime.policy == Threshold(0.5, 7)
        await typed(chat, "/policy warm")
        assert runtime.policy == Threshold(0.5, 7)
        await chat.until(lambda: any("no policy is called" in notice for notice in chat.notices()))


async def test_commands_open_screens_and_begin_chats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the keys do."""
    monkeypatch.chdir(tmp_path)
    async with chatting(scripted_runtime("Yes.")) as chat:
        await typed(chat, "/race")
        await chat.until(lambda: "before something was said" in "".join(chat.notices()))
        await chat.ask("One?")
        await chat.answered()
        for text, kind in (("/race", RaceScreen), ("/model", ModelsScreen), ("/system", SetupScreen)):
            await typed(chat, text)
            await chat.until(lambda kind=kind: isinstance(chat.app.screen, kind))
            await chat.press("escape")
            await chat.pilot.pause()
        await typed(chat, "/export json")
        assert (tmp_path / "one.json").exists()
        await typed(chat, "/theme nord")
        assert chat.app.theme == "nord"
        await typed(chat, "/new")
        await chat.until(lambda: not chat.dialogue.talk.turns)


async def test_an_unknown_command_stays_in_the_prompt_and_a_space_sends_it() -> None:
    """Nothing typed is lost."""
    async with chatting(scripted_runtime("Yes.")) as chat:
        await typed(chat, "/nonsense at all")
        assert chat.prompt.text == "/nonsense at all"
        assert not chat.answers
        chat.prompt.clear()
        await typed(chat, " /nonsense at all")
        await chat.until(lambda: bool(chat.answers))
        await chat.answered()
        assert chat.dialogue.talk.turns[0].content == " /nonsense at all"


async def test_while_it_answers_commands_that_need_rest_say_so() -> None:
    """Others work."""
    async with chatting(scripted_runtime(LONG, seconds=0.02)) as chat:
        await chat.ask("Go")
        await typed(chat, "/model")
        await chat.until(lambda: "while it answers" in "".join(chat.notices()))
        await typed(chat, "/panel")
        assert chat.screen.has_class("-panel-hidden")
        await chat.press("escape")
        await chat.answered()
