"""What a slash may become, while it is typed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.content import Content
from textual.widgets import Static

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dspark_local.tui.commands import Command

MOST = 6  # lines


class Offers(Static):
    """Commands that fit, the first of which Tab completes."""

    DEFAULT_CSS = """
    Offers {
        display: none; width: 1fr; height: auto; margin: 0 1; padding: 0 2; color: $text-muted;
        text-wrap: nowrap; text-overflow: ellipsis;
    }
    """

    def show(self, commands: Sequence[Command]) -> None:
        """Name, argument and meaning, a line each; nothing for none."""
        self.display = bool(commands)
        shown = commands[:MOST]
        lines = [(f"/{command.name} {command.takes}".rstrip(), command.what) for command in shown]
        width = max((len(name) for name, _ in lines), default=0)
        rows = [Content.assemble((f"{name:<{width}}", "bold $primary"), f"  {what}") for name, what in lines]
        if len(commands) > MOST:
            rows.append(Content(f"and {len(commands) - MOST} more: /help lists them"))
        self.update(Content("\n").join(rows))
