"""A chat on a scripted runtime, driven by Textual's pilot."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from textual.widgets import Static
from textual.widgets._toast import Toast

from dspark_local.conversations import Conversations
from dspark_local.tui import Settings
from dspark_local.tui.app import ChatApp
from dspark_local.tui.screens.chat import ChatScreen
from dspark_local.tui.widgets.message import Answer
from dspark_local.tui.widgets.prompt import Prompt

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from textual.pilot import Pilot
    from textual.screen import Screen

    from dspark_local.runtime import Runtime
    from dspark_local.tui.widgets.dialogue import Dialogue

S = TypeVar("S", bound="Screen[Any]")
PATIENCE = 30.0  # seconds until a test gives up; a busy machine is no failure


class Chat:
    """What a test does, and what it sees."""

    def __init__(self, app: ChatApp, pilot: Pilot[None]) -> None:
        self.app = app
        self.pilot = pilot
        self.press = pilot.press

    @property
    def screen(self) -> ChatScreen:
        screen = self.app.screen_stack[-1]
        assert isinstance(screen, ChatScreen)
        return screen

    @property
    def dialogue(self) -> Dialogue:
        return self.screen.dialogue

    @property
    def answers(self) -> list[Answer]:
        return list(self.screen.query(Answer))

    @property
    def prompt(self) -> Prompt:
        return self.screen.query_one(Prompt)

    def seen(self) -> str:
        """The text on the terminal."""
        return "\n".join(strip.text for strip in self.app.screen._compositor.render_strips())

    def notices(self) -> list[str]:
        return [toast._notification.message for toast in self.app.screen.query(Toast)]

    def summary(self) -> str:
        """What stands below the latest answer."""
        return str(self.answers[-1].query_one("#summary", Static).content)

    async def until(self, fact: Callable[[], bool]) -> None:
        await until(self.pilot, fact)

    async def ask(self, text: str) -> None:
        last = self.answers[-1:]
        await self.press(*text, "enter")
        await self.until(lambda: self.answers[-1:] != last)

    async def open(self, key: str, kind: type[S]) -> S:
        """Press a key that opens a screen."""
        await self.press(key)
        await self.until(lambda: isinstance(self.app.screen, kind))
        await self.pilot.pause()
        assert isinstance(self.app.screen, kind)
        return self.app.screen

    async def answered(self) -> None:
        await self.until(lambda: not self.dialogue.answering)
        await self.pilot.pause()


async def until(pilot: Pilot[None], fact: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not fact():
            await pilot.pause(0.01)


@asynccontextmanager
async def chatting(
    runtime: Runtime | Callable[[Any, Any], Runtime],
    *,
    size: tuple[int, int] = (100, 30),
    settings: Settings | None = None,
    store: Conversations | None = None,
) -> AsyncIterator[Chat]:
    """The chat over a runtime, or over what `runtime` loads."""
    load = runtime if callable(runtime) else lambda _choice, _progress: runtime
    app = ChatApp(load, settings or Settings(), lambda: store or Conversations(None))
    try:
        async with app.run_test(size=size, notifications=True) as pilot:
            await until(pilot, lambda: isinstance(app.screen, ChatScreen))
            await pilot.pause()
            yield Chat(app, pilot)
    finally:
        app.close()
