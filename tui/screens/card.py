"""What the small screens over the chat share: a card in the middle, and the way back."""

from __future__ import annotations

from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.screen import ModalScreen, ScreenResultType
from textual.widgets import Input


class Card(ModalScreen[ScreenResultType]):
    """Holds a container `#card`; Esc and Ctrl+C lead back, without a result."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "Back", priority=True),
        Binding("ctrl+c", "leave", show=False, priority=True),
    ]
    DEFAULT_CSS = """
    Card {
        align: center middle;
        #card {
            width: 76; max-width: 100%; height: auto; max-height: 90%; padding: 0 1;
            background: $surface; border: round $primary; border-title-color: $primary; border-title-style: bold;
        }
        OptionList:nocolor > .option-list--option-highlighted { text-style: reverse; }
    }
    """

    def on_mount(self) -> None:
        """Stand still for who wants no motion."""
        for line in self.query(Input):
            line.cursor_blink = self.app.animation_level != "none"

    def action_leave(self) -> None:
        """Back to the chat."""
        self.dismiss(None)
