"""A figure over time, against the most that it can be."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from textual.content import Content
from textual.widget import Widget

if TYPE_CHECKING:
    from collections.abc import Sequence

_BLOCKS = "▁▂▃▄▅▆▇█"
_RECENT = 200  # values: more than any panel is wide


class Levels(Widget):
    """A column a value, the latest at the right; unlike a sparkline's, its scale stays."""

    DEFAULT_CSS = """
    Levels { height: 1; width: 1fr; color: $primary; }
    """

    def __init__(self, most: int, *, id: str | None = None) -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id)
        self._most = most
        self.values: deque[int] = deque(maxlen=_RECENT)

    def show(self, values: Sequence[int]) -> None:
        """More values, each from 1 to `most`."""
        self.values.extend(values)
        self.refresh()

    def clear(self) -> None:
        """Begin anew."""
        self.values.clear()
        self.refresh()

    def render(self) -> Content:
        """As many of the latest as there is room for."""
        latest = list(self.values)[-self.size.width :]
        return Content("".join(_BLOCKS[min(7, 8 * max(0, value - 1) // self._most)] for value in latest))
