"""Text as it is, line by line, in runs of their own styles."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from textual.content import Content

from dspark_local.tui.prose.page import Drawn

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dspark_local.tui.prose.page import Block, Pen


@dataclass(frozen=True, slots=True)
class Row:
    """What stands between two line breaks."""

    content: Content
    goes_on: bool = True

    def draw(self, width: int, pen: Pen) -> Drawn:
        """As many lines as it takes."""
        return Drawn(pen.lines(self.content, width))


class Plain:
    """A text that grows in runs, each with its style."""

    def __init__(self) -> None:
        self.blocks: list[Block] = []
        self._last: list[tuple[str, str]] = []  # runs of the row that is not over

    def write(self, runs: Iterable[tuple[str, str]]) -> int:
        """More of it; returns the place of the first row that is another now."""
        first = max(0, len(self.blocks) - 1)
        del self.blocks[first:]
        for text, style in runs:
            row, *rows = text.split("\n")
            self._put(row, style)
            for row in rows:
                self._end()
                self._last = []
                self._put(row, style)
        self._end()
        return first

    def _put(self, text: str, style: str) -> None:
        if self._last and self._last[-1][1] == style:
            text = self._last.pop()[0] + text
        if text:
            self._last.append((text, style))

    def _end(self) -> None:
        self.blocks.append(Row(Content.assemble(*self._last)))
