"""While the pair loads; and what to do when it does not."""

from __future__ import annotations

import contextvars
import threading
from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType
from textual.containers import Middle, Vertical
from textual.screen import Screen
from textual.widgets import Footer, ProgressBar, Static

from dspark_local.tui.messages import Loaded, LoadFailed, LoadProgress
from dspark_local.tui.wording import failure

if TYPE_CHECKING:
    from textual.app import ComposeResult

    from dspark_local.tui.app import ChatApp
    from dspark_local.tui.settings import Opener


class LoadingScreen(Screen[None]):
    """Runs the opener on a thread, so that the screen stays alive and can be left."""

    app: ChatApp

    BINDINGS: ClassVar[list[BindingType]] = [
        ("r", "retry", "Try again"),
        Binding("escape,ctrl+c", "app.quit", "Quit", show=False),
    ]
    DEFAULT_CSS = """
    LoadingScreen {
        align: center middle;
        #loading { width: 60; max-width: 90%; height: auto; }
        #name { text-style: bold; color: $primary; margin-bottom: 1; }
        #stage { color: $text-muted; }
        #error { color: $text-error; display: none; margin-bottom: 1; }
        #way-on { color: $text-muted; display: none; }
        ProgressBar { width: 1fr; Bar { width: 1fr; } }
        &.-failed { #stage, ProgressBar { display: none; } #error, #way-on { display: block; } }
    }
    """

    def __init__(self, open_runtime: Opener) -> None:
        super().__init__()
        self._open = open_runtime
        self._told = ("", -1)

    def compose(self) -> ComposeResult:
        """Name, stage and bar; or error and way on."""
        with Middle(), Vertical(id="loading"):
            yield Static("dspark-local", id="name")
            yield Static("starting", id="stage")
            yield ProgressBar(total=1.0, show_eta=False, show_percentage=False)
            yield Static(id="error", markup=False)
            yield Static("r tries again, esc leaves", id="way-on")
        yield Footer(show_command_palette=False)

    def on_mount(self) -> None:
        """Begin."""
        self._begin()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool:  # noqa: ARG002 - Textual's signature
        """There is something to try again only after a failure."""
        return action != "retry" or self.has_class("-failed")

    def action_retry(self) -> None:
        """Load again: the file may be there now, or the memory free."""
        self.app.error = None
        self._begin()

    def on_load_progress(self, message: LoadProgress) -> None:
        """Move the bar."""
        self.query_one("#stage", Static).update(message.stage)
        self.query_one(ProgressBar).update(progress=message.share)

    def on_load_failed(self, message: LoadFailed) -> None:
        """Say why, and what can be done."""
        self.app.error = message.error
        self.add_class("-failed")
        self.query_one("#error", Static).update(failure(message.error))
        self.refresh_bindings()

    def _begin(self) -> None:
        self.remove_class("-failed")
        self.refresh_bindings()
        # A daemon of our own, not a worker: leaving the program must not wait for a model of many gigabytes.
        # The context is where Textual keeps the app, also for a screen that is gone by then.
        job = contextvars.copy_context().run
        threading.Thread(target=job, args=(self._load,), name="dspark-local-loading", daemon=True).start()

    def _load(self) -> None:
        try:
            runtime = self._open(self._tell)
        except Exception as error:  # noqa: BLE001 - whatever it was, the screen says it
            self.post_message(LoadFailed(error))
            return
        if not self.app.post_message(Loaded(runtime)):  # the user left meanwhile
            runtime.close()

    def _tell(self, stage: str, share: float) -> None:
        told = (stage, int(100 * share))
        if told != self._told:
            self._told = told
            self.post_message(LoadProgress(stage, share))
