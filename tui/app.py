"""The program: a loading screen, then the chat."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, ClassVar

from textual.app import App, SystemCommand
from textual.binding import Binding, BindingType

from dspark_local.conversations import Conversations, location
from dspark_local.errors import StorageError
from dspark_local.tui.messages import Loaded, Warned
from dspark_local.tui.screens.chat import ChatScreen
from dspark_local.tui.screens.loading import LoadingScreen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from textual.screen import Screen

    from dspark_local.runtime import Runtime
    from dspark_local.tui.settings import Opener, Settings


_LEFT_OUT = {"Keys", "Maximize", "Minimize"}


def run(open_runtime: Opener, settings: Settings) -> None:
    """Open the chat and stay until the user leaves.

    Raises what `open_runtime` raised, if the user leaves because of it.
    """
    app = ChatApp(open_runtime, settings, lambda: Conversations(location()))
    try:
        app.run()
    finally:
        app.close()
    if app.error:
        raise app.error


class ChatApp(App[None]):
    """Owns the conversations, and the runtime from when it is loaded until the program ends."""

    TITLE = "dspark-local"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+p", "command_palette", "Commands, themes", show=False),
        Binding("ctrl+q", "quit", "Quit", priority=True),
    ]
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (80, "-wide")]  # noqa: RUF012 - Textual declares it so

    def __init__(self, open_runtime: Opener, settings: Settings, keep: Callable[[], Conversations]) -> None:
        super().__init__()
        self.error: Exception | None = None  # why there is no runtime
        self._open = open_runtime
        self._settings = settings
        self._keep = keep
        self._store: Conversations | None = None
        self._runtime: Runtime | None = None
        self._warnings = _Warnings(self)

    def on_mount(self) -> None:
        """Load at once."""
        logging.getLogger("dspark_local").addHandler(self._warnings)
        try:
            self._store = self._keep()
        except StorageError as error:
            self._store = Conversations(None)
            self.notify(f"not saved: {error}", severity="error", timeout=15, markup=False)
        self.push_screen(LoadingScreen(self._open))

    def on_loaded(self, message: Loaded) -> None:
        """Go on to the chat."""
        assert self._store
        self._runtime = message.runtime
        self.switch_screen(ChatScreen(message.runtime, self._settings, self._store))

    def on_warned(self, message: Warned) -> None:
        """Show what the library warns of."""
        self.notify(message.text, severity="warning", timeout=15, markup=False)

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """The palette: what the keys do, and what has none; Textual's own list of keys knows less than ours."""
        yield from (command for command in super().get_system_commands(screen) if command.title not in _LEFT_OUT)
        if isinstance(screen, ChatScreen):
            yield from screen.commands()

    def close(self) -> None:
        """Free the models, let go of the conversations."""
        logging.getLogger("dspark_local").removeHandler(self._warnings)
        if self._runtime:
            self._runtime.close()
        if self._store:
            self._store.close()


class _Warnings(logging.Handler):
    """Hands the library's warnings to the screen; llama.cpp's own words are not for it."""

    def __init__(self, app: ChatApp) -> None:
        super().__init__(logging.WARNING)
        self._app = app

    def emit(self, record: logging.LogRecord) -> None:
        if not record.name.startswith("dspark_local.llama"):
            self._app.post_message(Warned(record.getMessage()))
