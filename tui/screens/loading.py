"""While the pair loads; and what to do when it does not."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType
from textual.containers import Middle, Vertical
from textual.screen import Screen
from textual.widgets import ProgressBar, Static

from dspark_local.tui import background
from dspark_local.tui.messages import Loaded, LoadFailed, LoadProgress
from dspark_local.tui.screens.models import ModelsScreen
from dspark_local.tui.settings import Choice
from dspark_local.tui.widgets.keyline import KeyLine
from dspark_local.tui.wording import failure

if TYPE_CHECKING:
    from textual.app import ComposeResult

    from dspark_local.tui.app import ChatApp
    from dspark_local.tui.settings import Opener


class LoadingScreen(Screen[None]):
    """Runs the opener on a thread, so that the screen stays alive and can be left.

    `back` is what ran before, if anything did: the way on when this fails.
    """

    app: ChatApp

    BINDINGS: ClassVar[list[BindingType]] = [
        ("r", "retry", "Try again"),
        Binding("m,f6", "models", "Another model"),
        Binding("escape", "leave", "Back"),
        Binding("ctrl+c", "leave", show=False),
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

    def __init__(self, open_runtime: Opener, choice: Choice, back: Choice | None) -> None:
        super().__init__()
        self._open = open_runtime
        self._choice = choice
        self._back = back
        self._told = ("", -1)

    def compose(self) -> ComposeResult:
        """Name, stage and bar; or error and way on."""
        with Middle(), Vertical(id="loading"):
            yield Static("dspark-local", id="name")
            yield Static("starting", id="stage")
            yield ProgressBar(total=1.0, show_eta=False, show_percentage=False)
            yield Static(id="error", markup=False)
            yield Static(self._way_on(), markup=False, id="way-on")
        yield KeyLine()

    def on_mount(self) -> None:
        """Begin."""
        self._begin()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool:  # noqa: ARG002 - Textual's signature
        """What follows a failure is offered only then; before it, leaving is, where nothing ran yet."""
        failed = self.has_class("-failed")
        return failed if action in {"retry", "models"} else action != "leave" or failed or self._back is None

    def action_retry(self) -> None:
        """Load again: the file may be there now, or the memory free."""
        self.app.error = None
        self._begin()

    def action_models(self) -> None:
        """Choose another."""
        self.app.push_screen(ModelsScreen("", self._choice.model), self._chosen)

    def action_leave(self) -> None:
        """Load what ran before; or leave the program."""
        if self._back is None:
            self.app.exit()
        else:
            self._choice = self._back
            self._begin()

    def _chosen(self, model: str | None) -> None:
        if model:
            self._choice = Choice(model=model)
            self.action_retry()

    def _way_on(self) -> str:
        leave = "leaves" if self._back is None else f"goes back to {self._back.model}"
        return f"r tries again, m chooses another model, esc {leave}"

    def on_load_progress(self, message: LoadProgress) -> None:
        """Move the bar."""
        self.query_one("#stage", Static).update(message.stage)
        self.query_one(ProgressBar).update(progress=message.share)

    def on_load_failed(self, message: LoadFailed) -> None:
        """Say why, and what can be done."""
        self.app.error = message.error if self._back is None else None
        self.add_class("-failed")
        self.query_one("#error", Static).update(failure(message.error))
        self.refresh_bindings()

    def _begin(self) -> None:
        self.remove_class("-failed")
        self.refresh_bindings()
        background.start(partial(self._load, self._choice), "loading")

    def _load(self, choice: Choice) -> None:
        try:
            runtime = self._open(choice, self._tell)
        except Exception as error:  # noqa: BLE001 - whatever it was, the screen says it
            self.post_message(LoadFailed(error))
            return
        if not self.app.post_message(Loaded(runtime, choice)):  # the user left meanwhile
            runtime.close()

    def _tell(self, stage: str, share: float) -> None:
        told = (stage, int(100 * share))
        if told != self._told:
            self._told = told
            self.post_message(LoadProgress(stage, share))
