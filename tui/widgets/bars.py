"""Shares as horizontal bars."""

from __future__ import annotations

from itertools import zip_longest
from typing import TYPE_CHECKING

from textual.content import Content
from textual.reactive import reactive
from textual.widget import Widget

if TYPE_CHECKING:
    from collections.abc import Sequence

    from textual.geometry import Size

MARK = "┃"
_LABEL, _PERCENT = 3, 5  # columns


def bar(share: float, width: int, style: str = "$primary", *, mark: float | None = None) -> Content:
    """A bar of `width` columns, filled by half columns; `mark` is another share, as a stroke across."""
    halves = round(2 * width * min(1.0, max(0.0, share)))
    full, half = divmod(halves, 2)
    done = "━" * full + "╸" * half
    rest = "─" * (width - len(done))  # thinner, for who sees no colours
    line = Content.assemble((done, style), (rest, "$foreground 15%"))
    if mark is None:
        return line
    at = min(width - 1, round(width * mark))
    return Content.assemble(line[:at], (MARK, "bold $warning"), line[at + 1 :])


class Bars(Widget):
    """One bar a position: how often a draft at it was accepted; None, when none was verified there yet.

    `foreseen` is what was expected instead.
    """

    DEFAULT_CSS = """
    Bars { height: auto; width: 1fr; }
    """

    shares: reactive[tuple[float | None, ...]] = reactive(())
    foreseen: reactive[tuple[float, ...]] = reactive(())

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:  # noqa: ARG002 - Textual's signature
        """A row a share; known without rendering, for this is asked with every layout."""
        return len(self.shares)

    def watch_shares(self, before: tuple[float | None, ...], after: tuple[float | None, ...]) -> None:
        """Lay the screen out anew only when there are more rows or fewer: figures move many times a second."""
        if len(before) != len(after):
            self.refresh(layout=True)

    def render(self) -> Content:
        """Position, bar, percent."""
        width = max(1, self.size.width - _LABEL - _PERCENT)
        rows = zip_longest(self.shares, self.foreseen[: len(self.shares)])
        return Content("\n").join(self._line(k, share, mark, width) for k, (share, mark) in enumerate(rows, 1))

    def show(self, shares: Sequence[float], n: int, foreseen: Sequence[float] = ()) -> None:
        """At least `n` bars, those beyond `shares` empty."""
        self.foreseen = tuple(foreseen)
        self.shares = (*shares, *[None] * (n - len(shares)))

    @staticmethod
    def _line(position: int, share: float | None, mark: float | None, width: int) -> Content:
        percent = "–" if share is None else f"{100 * share:.0f}%"
        return Content.assemble(
            (f"{position:<{_LABEL}}", "$foreground 60%"),
            bar(share or 0.0, width, "$success", mark=mark),
            (f"{percent:>{_PERCENT}}", "$foreground 60%" if share is None else "$foreground"),
        )
