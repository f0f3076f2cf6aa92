"""The models there are: to look at, to fetch, and to go on with."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Input, OptionList, ProgressBar, Static
from textual.widgets.option_list import Option

from dspark_local.outlook import outlook
from dspark_local.tui import background
from dspark_local.tui.messages import Foreseen, Stocked
from dspark_local.tui.screens.card import Card
from dspark_local.tui.shelf import Item, items
from dspark_local.tui.widgets.keyline import KeyLine
from dspark_local.tui.wording import failure

if TYPE_CHECKING:
    from textual.app import ComposeResult
    from textual.timer import Timer

    from dspark_local.tui.app import ChatApp

SEARCH = "a name, user/repo:QUANT of the hub, or the path of a GGUF file"
ASKING = "asking how large it is …"
_LOOK = 0.2  # seconds between two looks at a download
_PATIENCE = 0.15
_NAME = 18  # columns of a name


class ModelsScreen(Card["str | None"]):
    """A list below a line that filters it, or names a model that is not in it; answers with the one to load."""

    app: ChatApp

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "choose", "Load, or fetch", priority=True),
        Binding("f8", "stop_pull", "Stop fetching", priority=True),
        Binding("f6", "leave", show=False, priority=True),
        Binding("up", "move(-1)", show=False, priority=True),
        Binding("down", "move(1)", show=False, priority=True),
    ]
    DEFAULT_CSS = """
    ModelsScreen {
        #card { height: 80%; }
        Input { background: $boost; }
        OptionList {
            height: 1fr; border: none; background: transparent; padding: 0;
            text-wrap: nowrap; text-overflow: ellipsis;
        }
        #outlook { height: auto; max-height: 4; color: $text-muted; margin-top: 1; }
        #outlook.-error { color: $text-error; }
        #pull { height: 2; display: none; }
        &.-pulling #pull { display: block; }
        ProgressBar { width: 1fr; Bar { width: 1fr; } }
    }
    """

    def __init__(self, running: str, wanted: str = "") -> None:
        super().__init__()
        self._runs = running
        self._wanted = wanted
        self._all: list[Item] = []
        self._shown: list[Item] = []
        self._patience: Timer | None = None  # until the hub is asked: who leafs does not want to know

    def compose(self) -> ComposeResult:
        """Line, list, what is marked, and what is on its way."""
        with Vertical(id="card") as card:
            card.border_title = "models"
            yield Input(self._wanted, placeholder=SEARCH, compact=True, select_on_focus=False)
            yield OptionList()
            yield Static("looking …", markup=False, id="outlook")
            with Vertical(id="pull"):
                yield Static(markup=False, id="stage")
                yield ProgressBar(total=1.0, show_eta=False, show_percentage=False)
        yield KeyLine()

    def on_mount(self) -> None:
        """Look what there is."""
        self.query_one(Input).focus()
        self._look()
        self.set_interval(_LOOK, self._show_pull)
        self._show_pull()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool:  # noqa: ARG002 - Textual's signature
        """A download can be stopped only while there is one."""
        return action != "stop_pull" or self.app.pull is not None

    def on_stocked(self, message: Stocked) -> None:
        """List it."""
        self._all = list(message.items)
        self._list()
        if message.error:
            self._say(failure(message.error), error=True)

    def on_foreseen(self, message: Foreseen) -> None:
        """Say it of what is still marked."""
        if message.model == self._model:
            found = message.outlook
            wrong = isinstance(found, Exception)
            self._say(failure(found) if isinstance(found, Exception) else found.words, error=wrong)

    def on_input_changed(self) -> None:
        """Filter as the user types."""
        self._list()

    def on_option_list_option_highlighted(self) -> None:
        """Ask what the marked one would take."""
        self._foresee()

    def on_option_list_option_selected(self) -> None:
        """A click chooses."""
        self.action_choose()

    def action_move(self, rows: int) -> None:
        """Mark another, with the line keeping the focus."""
        options = self.query_one(OptionList)
        options.action_cursor_up() if rows < 0 else options.action_cursor_down()

    def action_choose(self) -> None:
        """Load what is here; fetch what is not."""
        model = self._model
        if not model:
            return
        if self._here(model):
            self.dismiss(model)
        elif self.app.pull:
            self.notify(f"{self.app.pull.model} is being fetched; F8 stops that.", timeout=4, markup=False)
        else:
            self.app.fetch(model)
            self._show_pull()

    def action_stop_pull(self) -> None:
        """What has arrived stays, and the next pull goes on from there."""
        self.app.stop_pull()
        self._show_pull()

    def pulled(self) -> None:
        """A model arrived, or did not: look again."""
        self._show_pull()
        self._look()

    @property
    def _model(self) -> str:
        at = self.query_one(OptionList).highlighted
        if self._shown and at is not None and at < len(self._shown):
            return self._shown[at].name
        return self.query_one(Input).value.strip()

    def _here(self, model: str) -> bool:
        known = next((item.here for item in self._all if item.name == model), None)
        return known if known is not None else model.endswith(".gguf")

    def _look(self) -> None:
        def job() -> None:
            try:
                self.post_message(Stocked(items()))
            except Exception as error:  # noqa: BLE001 - whatever it was, the screen says it
                self.post_message(Stocked([], error))

        background.start(job, "shelf")

    def _list(self) -> None:
        written = self.query_one(Input).value.strip().lower()
        self._shown = [item for item in self._all if written in item.name.lower() or written in item.what.lower()]
        options = self.query_one(OptionList)
        names = [item.name for item in self._shown]
        options.clear_options().add_options(Option(self._line(item)) for item in self._shown)
        if names:
            options.highlighted = next((names.index(name) for name in (written, self._runs) if name in names), 0)
        else:
            self._foresee()

    def _line(self, item: Item) -> Content:
        state = "runs" if item.name == self._runs else "here" if item.here else "hub"
        colour = "$success" if item.here else "$foreground 60%"
        name = item.name if len(item.name) <= _NAME else f"…{item.name[1 - _NAME :]}"
        return Content.assemble((f"{state:<5}", colour), f"{name:<{_NAME}} ", (item.what, "$foreground 60%"))

    def _foresee(self) -> None:
        model = self._model
        if self._patience:
            self._patience.stop()
        self._say(ASKING if model else "nothing found")
        if model:
            self._patience = self.set_timer(_PATIENCE, partial(self._ask, model))

    def _ask(self, model: str) -> None:
        drafter = self.app.drafter

        def job() -> None:
            try:
                self.post_message(Foreseen(model, outlook(model, drafter)))
            except Exception as error:  # noqa: BLE001 - whatever it was, the screen says it
                self.post_message(Foreseen(model, error))

        background.start(job, "outlook")

    def _say(self, words: str, *, error: bool = False) -> None:
        said = self.query_one("#outlook", Static)
        said.set_class(error, "-error")
        said.update(words)

    def _show_pull(self) -> None:
        pull = self.app.pull
        if self.has_class("-pulling") != (pull is not None):
            self.set_class(pull is not None, "-pulling")
            self.refresh_bindings()
        if pull:
            self.query_one("#stage", Static).update(f"{pull.model}: {pull.stage}")
            self.query_one(ProgressBar).update(progress=pull.share)
