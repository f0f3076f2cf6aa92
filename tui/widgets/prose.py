"""A text on the screen: one widget however long it is, drawn block by block, so that a long answer costs no more."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, ClassVar

from textual import highlight
from textual.geometry import Region
from textual.strip import Strip
from textual.style import Style
from textual.widget import Widget

from dspark_local.tui.prose.page import BLANK, Drawn, Fence, Pen

if TYPE_CHECKING:
    from collections.abc import Iterable

    from textual.geometry import Size
    from textual.selection import Selection

    from dspark_local.tui.prose.page import Document


class Prose(Widget):
    """Shows a document, and writes into it."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {"code", "fence", "heading", "link", "mark", "marked", "rule"}
    DEFAULT_CSS = """
    Prose {
        width: 1fr; height: auto;
        & > .code { color: $text-warning; background: $foreground 7%; }
        & > .fence { background: $foreground 5%; }
        & > .heading { color: $text-primary; text-style: bold; }
        & > .link { color: $text-accent; text-style: underline; }
        & > .mark { color: $text-primary; }
        & > .marked { background: $accent 30%; }
        & > .rule { color: $foreground 30%; }
        &:ansi > .marked { text-style: reverse; }
    }
    """

    def __init__(self, document: Document, *, classes: str | None = None) -> None:
        super().__init__(classes=classes)
        self.document = document
        self._page = Drawn()
        self._begins: list[int] = []  # the first line of each block that is drawn
        self._drawn_for: tuple[object, ...] = ()
        self.auto_links = False
        self._marked: int | None = None

    def show(self, document: Document) -> None:
        """Another text."""
        self.document = document
        self._grown(0)

    def write(self, runs: Iterable[tuple[str, str]]) -> None:
        """More of the text, each part in a style."""
        self._grown(self.document.write(runs))

    @property
    def fences(self) -> list[Fence]:
        """Its code blocks, from the first to the last; a long one was drawn in parts."""
        self._draw(self.size.width)
        whole: list[Fence] = []
        for fence in self._page.fences:
            if whole and whole[-1].end == fence.begin:
                before = whole.pop()
                whole.append(Fence(before.begin, fence.end, f"{before.code}\n{fence.code}"))
            else:
                whole.append(fence)
        return whole

    @property
    def marked(self) -> int | None:
        """Which of its code blocks is marked."""
        return self._marked

    @marked.setter
    def marked(self, n: int | None) -> None:
        self._marked = n
        self.refresh()

    # What Textual asks of a widget

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:  # noqa: ARG002 - its signature
        """Lines at that width."""
        self._draw(width)
        return len(self._page.lines)

    def render_line(self, y: int) -> Strip:
        """One of them, with the selection on it."""
        self._draw(self.size.width)
        lines = self._page.lines
        strip = lines[y].strip if y < len(lines) else BLANK.strip
        if self._marked is not None and (fence := self.fences[self._marked]).begin <= y < fence.end:
            strip = _styled(strip, 0, -1, self.get_visual_style("marked"))
        if (selection := self.text_selection) and (span := selection.get_span(y)):
            strip = _styled(strip, *span, Style.from_styles(self.screen.get_component_styles("screen--selection")))
        return strip.adjust_cell_length(self.size.width, self.visual_style.rich_style).apply_offsets(0, y)

    def get_selection(self, selection: Selection) -> tuple[str, str] | None:
        """The text that is selected, as it was before lines were broken to fit."""
        found = ""
        for y, line in enumerate(self._page.lines):
            if (span := selection.get_span(y)) is None:
                continue
            begin, end = span
            text = line.strip.text.rstrip()
            part = text[max(begin, 0 if line.joint == "\n" else line.indent) : end if end >= 0 else None]
            found += (line.joint if found else "") + part
        return found, "\n"

    def action_link(self, target: str) -> None:
        """Open what was clicked."""
        self.app.open_url(target)

    # Inside

    def _grown(self, first: int) -> None:
        """From this block on, it is another."""
        self._forget(first)
        width, height = self.size
        if not width:  # not shown yet, or folded away
            self.refresh(layout=True)
            return
        begin = len(self._page.lines)
        self._draw(width)
        if len(self._page.lines) == height:
            self.refresh(Region(0, begin, width, height - begin))
        else:
            self.refresh(layout=True)

    def _draw(self, width: int) -> None:
        """What is not drawn yet, or was for another width or theme."""
        wanted = (width, self.visual_style, self.app.theme)
        if wanted != self._drawn_for:
            self._forget(0)
            self._drawn_for = wanted
        blocks = self.document.blocks[len(self._begins) :]
        if not blocks or not width:
            return
        pen = Pen(self.visual_style, self._get_style, self._highlighting)
        for block in blocks:
            self._begins.append(len(self._page.lines))
            self._page.put(block.draw(width, pen), apart=not block.goes_on)

    def _forget(self, first: int) -> None:
        """From this block on, what was drawn."""
        if first < len(self._begins):
            begin = self._begins[first]
            del self._begins[first:]
            del self._page.lines[begin:]
            self._page.fences = [fence for fence in self._page.fences if fence.begin < begin]

    @property
    def _highlighting(self) -> type[highlight.HighlightTheme]:
        if not self.app.native_ansi_color:
            return highlight.HighlightTheme
        dark = self.app.current_theme.dark
        return highlight.ANSIDarkHighlightTheme if dark else highlight.ANSILightHighlightTheme


def _styled(strip: Strip, begin: int, end: int, style: Style) -> Strip:
    """With another style from one character to another, or to its end."""
    cells = [strip.index_to_cell_position(n) if 0 <= n < len(strip.text) else strip.cell_length for n in (begin, end)]
    cuts = [0, *cells, strip.cell_length]
    parts = [strip.crop(a, b) for a, b in pairwise(cuts)]
    return Strip.join([parts[0], parts[1].apply_style(style.rich_style), parts[2]])
