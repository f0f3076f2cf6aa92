"""The program: a loading screen, then the chat; it owns what both need."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, ClassVar

from textual.app import App, SystemCommand
from textual.binding import Binding, BindingType

from dspark_local.conversations import Conversations, location
from dspark_local.errors import StorageError
from dspark_local.tui import background, preferences
from dspark_local.tui.heap import Heap
from dspark_local.tui.messages import Loaded, Pulled, Warned
from dspark_local.tui.preferences import Preferences
from dspark_local.tui.prose import colours
from dspark_local.tui.pull import Pull
from dspark_local.tui.screens.chat import ChatScreen
from dspark_local.tui.screens.loading import LoadingScreen
from dspark_local.tui.screens.models import ModelsScreen
from dspark_local.tui.settings import Choice
from dspark_local.tui.wording import failure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from textual.screen import Screen
    from textual.theme import Theme

    from dspark_local.runtime import Runtime
    from dspark_local.tui.settings import Opener, Settings


_COLOURLESS = "NO_COLOR"
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
    """Owns the conversations, and the runtime from when it is loaded until another is, or the program ends."""

    TITLE = "dspark-local"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+p", "command_palette", "Commands, themes", show=False),
        Binding("ctrl+q", "quit", "Quit", priority=True),
    ]
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (80, "-wide")]  # noqa: RUF012 - Textual declares it so

    def __init__(self, open_runtime: Opener, settings: Settings, keep: Callable[[], Conversations]) -> None:
        super().__init__(ansi_color=True if _COLOURLESS in os.environ else None)  # else NO_COLOR means shades of grey
        self.error: Exception | None = None  # why there is no runtime
        self.pull: Pull | None = None  # a download that is under way
        self._open = open_runtime
        self._settings = settings
        self._keep = keep
        self._store: Conversations | None = None
        self._runtime: Runtime | None = None
        self._choice: Choice | None = None  # what the runtime is
        self._preferences = Preferences.recall(preferences.location())
        self._warnings = _Warnings(self)
        self._heap = Heap()

    def on_mount(self) -> None:
        """Load at once."""
        background.start(colours.warm, "colours")
        logging.getLogger("dspark_local").addHandler(self._warnings)
        self._dress()
        try:
            self._store = self._keep()
        except StorageError as error:
            self._store = Conversations(None)
            self.notify(f"not saved: {error}", severity="error", timeout=15, markup=False)
        self.load(Choice(model=self._settings.model))

    @property
    def drafter(self) -> str:
        """What drafts for models that are loaded later."""
        return self._settings.drafter

    @property
    def choice(self) -> Choice:
        """What runs, or was to run when the program began."""
        return self._choice or Choice(model=self._settings.model)

    def load(self, choice: Choice) -> None:
        """Load a pair in place of the one that runs, if any; the chat stays, and goes on with it."""
        self.push_screen(LoadingScreen(self._exchanged, choice, back=self._choice))

    def on_loaded(self, message: Loaded) -> None:
        """Go on to the chat, or on with it."""
        assert self._store
        self._runtime, self._choice = message.runtime, message.choice
        chat = next((screen for screen in self.screen_stack if isinstance(screen, ChatScreen)), None)
        if chat:
            while self.screen is not chat:
                self.pop_screen()
            self.call_later(chat.go_on_with, message.runtime)
        else:
            self.switch_screen(ChatScreen(message.runtime, self._settings, self._store))
        self.call_after_refresh(self._heap.settle)

    def on_answered(self) -> None:
        """Tidy up once it is painted."""
        self.call_after_refresh(self._heap.sweep)

    def fetch(self, model: str) -> None:
        """Fetch a model while the chat goes on."""
        self.pull = self.pull or Pull(model, self.drafter, self.post_message)

    def stop_pull(self) -> None:
        """Give a download up."""
        if self.pull:
            self.pull.cancel()
            self.pull = None

    def on_pulled(self, message: Pulled) -> None:
        """Say that it is here, or why it is not."""
        if self.pull is None or self.pull.model != message.model:
            return
        self.pull = None
        if message.error:
            self.notify(failure(message.error), severity="error", timeout=15, markup=False)
        else:
            self.notify(f"{message.model} is here; /model {message.model} loads it", timeout=8, markup=False)
        if isinstance(self.screen, ModelsScreen):
            self.screen.pulled()

    def on_warned(self, message: Warned) -> None:
        """Show what the library warns of."""
        self.notify(message.text, severity="warning", timeout=15, markup=False)

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """The palette: what the keys do, and what has none; Textual's own list of keys knows less than ours."""
        yield from (command for command in super().get_system_commands(screen) if command.title not in _LEFT_OUT)
        if isinstance(screen, ChatScreen):
            yield from screen.commands()

    def action_theme(self, name: str = "") -> None:
        """Wear a theme; without a name, the list of them."""
        if name in self.available_themes:
            self.theme = name
        elif name:
            self.notify(f"no theme is called {name}; /theme shows them", severity="warning", timeout=5, markup=False)
        else:
            self.search_themes()

    def close(self) -> None:
        """Free the models, let go of the conversations."""
        self._heap.release()
        logging.getLogger("dspark_local").removeHandler(self._warnings)
        self.stop_pull()
        if self._runtime:
            self._runtime.close()
        if self._store:
            self._store.close()

    def _exchanged(self, choice: Choice, progress: Callable[[str, float], None]) -> Runtime:
        """On the loading thread: the old pair goes first, for two may not fit."""
        if self._runtime:
            progress("closing the model before", 0.0)
            self._runtime.close()
        return self._open(choice, progress)

    def _dress(self) -> None:
        """No colours, the theme of the environment, or the one that was worn last; and remember which is chosen."""
        if self.no_color:
            self.theme = "ansi-dark"
            return
        kept = self._preferences.theme
        if kept in self.available_themes and "TEXTUAL_THEME" not in os.environ:
            self.theme = kept
        self.theme_changed_signal.subscribe(self, self._remember)

    def _remember(self, theme: Theme) -> None:
        if theme.name != self._preferences.theme:
            self._preferences = self._preferences.keep(preferences.location(), theme=theme.name)


class _Warnings(logging.Handler):
    """Hands the library's warnings to the screen; but not llama.cpp's own words, nor what ends an answer."""

    def __init__(self, app: ChatApp) -> None:
        super().__init__(logging.WARNING)
        self._app = app

    def emit(self, record: logging.LogRecord) -> None:
        if not record.name.startswith(("dspark_local.llama", "dspark_local.decoding")):
            self._app.post_message(Warned(record.getMessage()))
