"""Names and values, one a line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.content import Content
from textual.reactive import reactive
from textual.widget import Widget

if TYPE_CHECKING:
    from collections.abc import Mapping

    from textual.geometry import Size

_NAME = 10  # columns


class Facts(Widget):
    """A small table without lines; a value that is too long is cut."""

    DEFAULT_CSS = """
    Facts { height: auto; width: 1fr; }
    """

    rows: reactive[tuple[tuple[str, str], ...]] = reactive(())

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:  # noqa: ARG002 - Textual's signature
        """A row a fact; known without rendering, for this is asked with every layout."""
        return len(self.rows)

    def watch_rows(self, before: tuple[tuple[str, str], ...], after: tuple[tuple[str, str], ...]) -> None:
        """Lay the screen out anew only when there are more rows or fewer: figures move many times a second."""
        if len(before) != len(after):
            self.refresh(layout=True)

    def render(self) -> Content:
        """Name at the left, value at the right."""
        room = max(1, self.size.width - _NAME)
        return Content("\n").join(
            Content.assemble((f"{name:<{_NAME}}", "$foreground 60%"), (f"{_cut(value, room):>{room}}", "$foreground"))
            for name, value in self.rows
        )

    def show(self, rows: Mapping[str, str]) -> None:
        """Replace all of them."""
        self.rows = tuple(rows.items())


def _cut(text: str, room: int) -> str:
    return text if len(text) <= room else text[: room - 1] + "…"
