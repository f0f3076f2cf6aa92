"""How the answers of this chat are drawn: system message and sampling."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.widgets import Input, Label, Static, TextArea

from dspark_local.errors import UsageError
from dspark_local.tui.knobs import KNOBS, label, shown, turned
from dspark_local.tui.screens.card import Card
from dspark_local.tui.widgets.keyline import KeyLine
from dspark_local.tui.wording import failure

if TYPE_CHECKING:
    from textual.app import ComposeResult

    from dspark_local.types import SamplingParams


class SetupScreen(Card["tuple[str | None, SamplingParams] | None"]):
    """A form; answers with what it says, or None."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+s", "take", "Take over", priority=True),
        Binding("f9", "leave", show=False, priority=True),
    ]
    DEFAULT_CSS = """
    SetupScreen {
        #card { width: 64; }
        TextArea { height: 5; border: none; padding: 0 1; margin-bottom: 1; background: $boost; }
        Horizontal { height: 1; }
        Label { width: 14; color: $text-muted; }
        Input { width: 1fr; background: $boost; }
        #error { color: $text-error; margin-top: 1; height: auto; }
    }
    """

    def __init__(self, system: str | None, sampling: SamplingParams) -> None:
        super().__init__()
        self._system = system
        self._sampling = sampling

    def compose(self) -> ComposeResult:
        """System message, then a line a number."""
        with VerticalScroll(id="card", can_focus=False) as card:
            card.border_title = "this chat, from the next answer on"
            yield Label("system message")
            yield TextArea(self._system or "", tab_behavior="focus", compact=True, highlight_cursor_line=False)
            for name in KNOBS:
                with Horizontal():
                    yield Label(label(name))
                    yield Input(shown(self._sampling, name), placeholder="drawn", id=name, compact=True)
            yield Static(id="error", markup=False)
        yield KeyLine()

    def on_input_submitted(self) -> None:
        """Enter in a line takes over too."""
        self.action_take()

    def action_take(self) -> None:
        """Answer, if the numbers are sound."""
        written = {name: self.query_one(f"#{name}", Input).value for name in KNOBS}
        try:
            sampling = turned(self._sampling, written)
        except UsageError as error:
            self.query_one("#error", Static).update(failure(error))
            return
        self.dismiss((self.query_one(TextArea).text.strip() or None, sampling))
