"""Commands, help and screens: true, and whole on a terminal of 60 × 20."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from textual.command import CommandPalette
from textual.widgets import OptionList

from dspark_local.testing import scripted_runtime
from dspark_local.tui.screens.help import HelpScreen

from .driver import Chat, chatting

if TYPE_CHECKING:
    from textual.screen import Screen

SMALL = (60, 20)


def commands(chat: Chat) -> dict[str, str]:
    return {c.title: c.help for c in chat.app.get_system_commands(chat.screen)}


async def test_the_palette_offers_what_can_be_done_now() -> None:
    """What needs a turn comes with the first one; keys are those of the bindings."""
    async with chatting(scripted_runtime("Yes.")) as chat:
        before = commands(chat)
        assert {"Theme", "New chat", "Chats", "Machine", "Quit"} <= set(before)
        assert not {"Export to JSON", "Race", "Answer again", "Keys"} & set(before)
        await chat.ask("One?")
        await chat.answered()
        after = commands(chat)
        assert {"Export to Markdown", "Export to JSON", "Race", "Answer again"} <= set(after)
        assert after["Race"] == "key: f3"


async def test_a_command_does_what_it_says() -> None:
    """Chosen in the palette, the panel is hidden."""
    async with chatting(scripted_runtime("Yes.")) as chat:
        await chat.press("ctrl+p")
        await chat.until(lambda: isinstance(chat.app.screen, CommandPalette))
        await chat.press(*"Panel")
        await chat.until(lambda: chat.app.screen.query_one(OptionList).option_count == 1)
        await chat.press("down", "enter")
        await chat.until(lambda: chat.screen.has_class("-panel-hidden"))


async def test_every_key_that_the_help_names_does_something() -> None:
    """Each is bound to an action that exists, on the screen or the prompt or the program."""
    async with chatting(scripted_runtime("Yes.")) as chat:
        await chat.ask("One?")
        await chat.answered()
        owners = (chat.prompt, chat.dialogue, chat.screen, chat.app)
        await chat.press("f1")
        assert isinstance(chat.app.screen, HelpScreen)
        for active in chat.app.screen._in_force:
            name = active.binding.action.split("(")[0]
            assert any(hasattr(owner, f"action_{name}") for owner in owners), name


@pytest.mark.parametrize("theme", ["textual-light", "ansi-dark", "nord"])
async def test_any_theme_will_do(theme: str) -> None:
    """Light, the terminal's own colours, another dark one: none lacks a colour that we name."""
    async with chatting(scripted_runtime("Yes.")) as chat:
        chat.app.theme = theme
        await chat.press("ctrl+t")
        await chat.ask("One?")
        await chat.answered()
        await chat.press("f4")
        await chat.pilot.pause()
        assert "this machine" in chat.seen()


@pytest.mark.parametrize(
    ("key", "whole"), [("f1", "╯"), ("f4", "no costs"), ("f9", "min-p"), ("ctrl+o", "One?"), ("f3", "same text")]
)
async def test_every_screen_fits_a_small_terminal(key: str, whole: str) -> None:
    """Nothing sticks out at the right, and the way back is named."""
    async with chatting(scripted_runtime("Yes."), size=SMALL) as chat:
        await chat.ask("One?")
        await chat.answered()
        await chat.press(key)
        await chat.until(lambda: whole in chat.seen())
        screen: Screen[object] = chat.app.screen
        assert not [w for w in screen.query("*") if w.display and w.region.right > SMALL[0]]
        assert key == "f1" or "Back" in chat.seen()
        await chat.press("escape")
        assert chat.screen
