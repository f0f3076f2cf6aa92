"""What a block is drawn with, and into."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

from textual.content import Content
from textual.strip import Strip
from textual.visual import RenderOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from textual.highlight import HighlightTheme
    from textual.style import Style


@dataclass(frozen=True, slots=True)
class Line:
    """A row of cells; `joint` is what stands between it and the line before in a text that is copied.

    `indent`: characters at its beginning that are no text where the line before goes on in it.
    """

    strip: Strip
    joint: str = "\n"
    indent: int = 0


BLANK = Line(Strip([]))


@dataclass(frozen=True, slots=True)
class Fence:
    """A code block: the first of its lines, the one behind its last, and what F8 copies."""

    begin: int
    end: int
    code: str

    def moved(self, by: int) -> Fence:
        """The same, further down."""
        return replace(self, begin=self.begin + by, end=self.end + by)


@dataclass(slots=True)
class Drawn:
    """A block at some width."""

    lines: list[Line] = field(default_factory=list)
    fences: list[Fence] = field(default_factory=list)

    def put(self, other: Drawn, *, apart: bool) -> None:
        """Another block below, `apart` by an empty line."""
        if self.lines and apart:
            self.lines.append(BLANK)
        self.fences += [fence.moved(len(self.lines)) for fence in other.fences]
        self.lines += other.lines


@dataclass(frozen=True, slots=True)
class Pen:
    """Styles of the widget that is drawn on; those with a dot are its component classes."""

    base: Style
    style: Callable[[str | Style], Style]
    theme: type[HighlightTheme]

    def on(self, name: str) -> Pen:
        """The same on another ground."""
        return replace(self, base=self.base + self.style(name))

    def lines(self, content: Content, width: int, joint: str = " ") -> list[Line]:
        """As many as it takes; `joint` is what a break within a line stands for."""
        options = RenderOptions(self.style, {})
        lines = []
        for line in content.split("\n", allow_blank=True):
            strips = line.render_strips(max(1, width), None, self.base, options)
            lines += [Line(strip, joint if n else "\n") for n, strip in enumerate(strips)]
        return lines

    def strip(self, text: str, style: str = "") -> Strip:
        """A few cells."""
        return self.lines(Content.styled(text, style), len(text))[0].strip

    def filled(self, lines: Sequence[Line], width: int) -> list[Line]:
        """Each as wide as the ground."""
        ground = self.base.rich_style
        return [replace(line, strip=line.strip.adjust_cell_length(width, ground)) for line in lines]


class Block(Protocol):
    """Part of a text that is drawn by itself; `goes_on`: without an empty line above it."""

    @property
    def goes_on(self) -> bool:
        """Whether it belongs to the block above."""

    def draw(self, width: int, pen: Pen) -> Drawn:
        """At a width of so many cells."""


class Document(Protocol):
    """A text that grows, as blocks."""

    blocks: list[Block]

    def write(self, runs: Iterable[tuple[str, str]]) -> int:
        """Append texts, each with a style; returns the place of the first block that is another now."""
