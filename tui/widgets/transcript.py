"""The conversation, kept at its end while it grows, unless the user scrolled up."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.containers import Vertical, VerticalScroll
from textual.widgets import Static
from textual.widgets.markdown import MarkdownFence

from dspark_local.tui.widgets.message import Answer, Turn, UserMessage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from textual.app import ComposeResult
    from textual.widget import Widget

    from dspark_local.conversations import Turn as Said

MARKED = "-marked"


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

    async def show(self, turns: Sequence[Said], places: Sequence[tuple[int, int]], *, tinted: bool) -> None:
        """A whole conversation in place of what is there."""
        shown = self.query_one("#turns")
        await shown.remove_children()
        widgets = [
            UserMessage(turn.content, n) if turn.role == "user" else Answer(n, turn.content, turn.thinking)
            for n, turn in enumerate(turns)
        ]
        for widget, (at, among) in zip(widgets, places, strict=True):
            widget.place.show(at, among)
        await shown.mount_all(widgets or [Static(self._welcome, id="welcome")])
        self.tint(tinted)
        self.anchor()

    async def add(self, turn: Widget) -> None:
        """Show a turn at the end, and follow it."""
        self.mark(None)
        await self.query("#welcome").remove()
        await self.query_one("#turns").mount(turn)
        self.anchor()

    async def cut(self, n: int) -> None:
        """Take away what stands behind the first `n` turns of the conversation."""
        turns = self.query_one("#turns").children
        first = next((i for i, widget in enumerate(turns) if isinstance(widget, Turn) and widget.turn >= n), len(turns))
        await self.query_one("#turns").remove_children(list(turns[first:]))

    def tint(self, on: bool) -> None:  # noqa: FBT001 - a switch
        """Show answers by origin, or as Markdown."""
        for answer in self.query(Answer):
            answer.tint(on)

    @property
    def answers(self) -> list[Answer]:
        """From the first to the last."""
        return list(self.query(Answer))

    def turn(self, n: int) -> Turn | None:
        """The one in that place of the conversation."""
        return next((turn for turn in self.query(Turn) if turn.turn == n), None)

    @property
    def marked(self) -> Turn | None:
        """The turn that the user jumped to."""
        return next((turn for turn in self.query(Turn) if turn.has_class(MARKED)), None)

    @property
    def code(self) -> MarkdownFence | None:
        """The code block that the user jumped to, or the last one of the answer that is marked, or of all."""
        marked = [fence for fence in self.query(MarkdownFence) if fence.has_class(MARKED)]
        fences = marked or list((self.marked or self).query(MarkdownFence))
        return fences[-1] if fences else None

    def jump(self, by: int) -> None:
        """Mark the turn before or behind; behind the last, none: then the transcript follows what is written."""
        self._jump(list(self.query(Turn)), by)

    def jump_code(self, by: int) -> None:
        """The same with code blocks."""
        self._jump(list(self.query(MarkdownFence)), by)

    def mark(self, widget: Widget | None) -> None:
        """Mark one thing, or nothing."""
        self.query(f".{MARKED}").remove_class(MARKED)
        if widget:
            widget.add_class(MARKED)

    def _jump(self, among: Sequence[Widget], by: int) -> None:
        at = next((n for n, widget in enumerate(among) if widget.has_class(MARKED)), len(among)) + by
        if 0 <= at < len(among):
            self.mark(among[at])
            self.release_anchor()
            self.scroll_to_widget(among[at], top=True, animate=False)
        elif at >= len(among):
            self.mark(None)
            self.anchor()
