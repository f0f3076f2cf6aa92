"""The conversation, kept at its end while it grows, unless the user scrolled up."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.containers import Vertical, VerticalScroll
from textual.widgets import Static

if TYPE_CHECKING:
    from textual.app import ComposeResult
    from textual.widget import Widget


class Transcript(VerticalScroll, can_focus=False):
    """Turns below one another."""

    DEFAULT_CSS = """
    Transcript {
        height: 1fr; scrollbar-size-vertical: 1; scrollbar-gutter: stable;
        scrollbar-background: $background; scrollbar-background-hover: $background;
        /* as high as the view at least: an anchored view of less would put the first turn at the bottom */
        #turns { height: auto; min-height: 100%; padding: 0 1 1 1; }
        #welcome { width: 1fr; margin-top: 5; text-align: center; color: $text-muted; }
    }
    """

    def __init__(self, welcome: str) -> None:
        super().__init__()
        self._welcome = welcome

    def compose(self) -> ComposeResult:
        """A word of welcome until there is a turn."""
        with Vertical(id="turns"):
            yield Static(self._welcome, id="welcome")

    async def add(self, turn: Widget) -> None:
        """Show a turn at the end, and follow it."""
        await self.query("#welcome").remove()
        await self.query_one("#turns").mount(turn)
        self.anchor()

    async def cut(self, n: int) -> None:
        """Take away what stands behind the first `n` turns of the conversation."""
        turns = self.query_one("#turns").children
        first = next((i for i, widget in enumerate(turns) if getattr(widget, "turn", -1) >= n), len(turns))
        await self.query_one("#turns").remove_children(list(turns[first:]))

    async def clear(self) -> None:
        """Begin anew."""
        turns = self.query_one("#turns")
        await turns.remove_children()
        await turns.mount(Static(self._welcome, id="welcome"))
