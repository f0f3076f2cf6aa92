"""The conversation, kept at its end while it grows, unless the user scrolled up."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual._styles_cache import StylesCache
from textual.containers import Vertical, VerticalScroll
from textual.widgets import Static

from dspark_local.tui.messages import Recalled
from dspark_local.tui.widgets.message import Answer, Turn, UserMessage
from dspark_local.tui.wording import count

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from textual.app import ComposeResult
    from textual.widget import Widget

    from dspark_local.conversations import Turn as Said

MARKED = "-marked"
MOST = 40  # turns that are shown at once, before somebody asks for more


class Earlier(Static):
    """How many turns stand above what is shown; a click shows some."""

    DEFAULT_CSS = """
    Earlier { width: 1fr; text-align: center; color: $text-muted; display: none; &:hover { color: $text-accent; } }
    """

    def __init__(self) -> None:
        super().__init__(markup=False)
        self.turns = 0

    def show(self, turns: int) -> None:
        """So many; or none."""
        self.turns = turns
        self.display = turns > 0
        self.update(f"▴ {count(turns, 'earlier message')}")

    def ask(self) -> None:
        """For more of them."""
        if self.turns:
            self.post_message(Recalled())

    def on_click(self) -> None:
        """The same by mouse."""
        self.ask()


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
        self._earlier = Earlier()

    def compose(self) -> ComposeResult:
        """A word of welcome until there is a turn."""
        with Vertical(id="turns"):
            yield self._earlier
            yield Static(self._welcome, id="welcome")

    async def show(self, turns: Sequence[Said], place: Callable[[int], tuple[int, int]], *, tinted: bool) -> None:
        """A conversation in place of what is there, or the end of a long one; `place`: which version a turn is."""
        await self._remove(list(self.query("#turns > *").exclude("Earlier")))
        self._earlier.show(len(turns))
        await self.recall(turns, place, tinted=tinted)
        if not turns:
            await self.query_one("#turns").mount(Static(self._welcome, id="welcome"))
        self.anchor()

    async def recall(self, turns: Sequence[Said], place: Callable[[int], tuple[int, int]], *, tinted: bool) -> None:
        """Show more of what was said before; the view stays where it is."""
        end = self._earlier.turns
        begin = max(0, end - MOST)
        widgets: list[UserMessage | Answer] = []
        for n, turn in enumerate(turns[begin:end], begin):
            mine = turn.role == "user"
            widget = UserMessage(turn.content, n) if mine else Answer(n, turn.content, turn.thinking)
            widget.place.show(*place(n))
            if isinstance(widget, Answer):
                widget.tint(tinted)
            widgets.append(widget)
        below = self.turn(end)
        await self.query_one("#turns").mount_all(widgets, after=self._earlier)
        self._earlier.show(begin)
        if below:
            self.call_after_refresh(self.scroll_to_widget, below, top=True, animate=False)

    async def add(self, turn: Widget) -> None:
        """Show a turn at the end, and follow it; the earliest make way, for each costs time in every frame."""
        self.mark(None)
        await self.query("#welcome").remove()
        await self.query_one("#turns").mount(turn)
        shown = list(self.query(Turn))
        if len(shown) > MOST + MOST // 2:
            await self._remove(shown[:-MOST])
            self._earlier.show(shown[-MOST].turn)
        self.anchor()

    async def cut(self, n: int) -> None:
        """Take away what stands behind the first `n` turns of the conversation."""
        turns = list(self.query_one("#turns").children)
        first = next((i for i, widget in enumerate(turns) if isinstance(widget, Turn) and widget.turn >= n), len(turns))
        await self._remove(turns[first:])
        self._earlier.show(min(n, self._earlier.turns))

    async def _remove(self, widgets: Sequence[Widget]) -> None:
        await self.query_one("#turns").remove_children(list(widgets))
        StylesCache.get_inner_outer.cache_clear()  # whose keys hold lines, those of 1024 widgets

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
    def code(self) -> str:
        """The code block that the user jumped to, or the last one of the answer that is marked, or of all."""
        among = [self.marked] if isinstance(self.marked, Answer) else self.answers
        codes = [fence.code for answer in among for fence in answer.prose.fences]
        marked = [a.prose.fences[a.prose.marked].code for a in self.answers if a.prose.marked is not None]
        return (marked or codes or [""])[-1]

    def jump(self, by: int) -> None:
        """Mark the turn before or behind; behind the last, none: then the transcript follows what is written."""
        turns = list(self.query(Turn))
        if turns and by < 0 and turns[0].has_class(MARKED):
            self._earlier.ask()
        at = next((n for n, turn in enumerate(turns) if turn.has_class(MARKED)), len(turns)) + by
        if 0 <= at < len(turns):
            self.mark(turns[at])
            self.release_anchor()
            self.scroll_to_widget(turns[at], top=True, animate=False)
        elif at >= len(turns):
            self._follow()

    def jump_code(self, by: int) -> None:
        """The same with code blocks."""
        codes = [(answer.prose, n) for answer in self.answers for n in range(len(answer.prose.fences))]
        at = next((i for i, (prose, n) in enumerate(codes) if prose.marked == n), len(codes)) + by
        if 0 <= at < len(codes):
            self.mark(None)
            prose, n = codes[at]
            prose.marked = n
            self.release_anchor()
            top = prose.content_region.y + prose.fences[n].begin
            self.scroll_to(y=self.scroll_y + top - self.content_region.y - 1, animate=False)
        elif at >= len(codes):
            self._follow()

    def mark(self, turn: Turn | None) -> None:
        """Mark one turn, or nothing."""
        self.query(f".{MARKED}").remove_class(MARKED)
        for answer in self.answers:
            answer.prose.marked = None
        if turn:
            turn.add_class(MARKED)

    def page(self, by: int) -> None:
        """Leaf through it."""
        if by < 0:
            self.scroll_page_up()
            if self.scroll_y <= 0:
                self._earlier.ask()
        else:
            self.scroll_page_down()

    def _follow(self) -> None:
        self.mark(None)
        self.anchor()
