"""The top line: what runs, and how fast, for when the panel is hidden."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.containers import Horizontal
from textual.widgets import Static

if TYPE_CHECKING:
    from textual.app import ComposeResult

    from dspark_local.types import Stats


class Heading(Horizontal):
    """Model at the left, the moment at the right."""

    DEFAULT_CSS = """
    Heading {
        height: 1; padding: 0 2; background: $panel; color: $text-muted;
        #program { width: auto; color: $primary; text-style: bold; }
        #model { width: auto; max-width: 50%; padding: 0 1; }
        #moment { width: 1fr; height: 1; text-align: right; }
    }
    """

    def __init__(self, model: str) -> None:
        super().__init__()
        self._model = Static(model, id="model", markup=False)
        self._moment = Static(id="moment", markup=False)

    def compose(self) -> ComposeResult:
        """Name, model, moment."""
        yield Static("dspark-local", id="program")
        yield self._model
        yield self._moment

    def name_model(self, model: str) -> None:
        """Another one runs."""
        self._model.update(model)

    def show(self, stats: Stats | None) -> None:
        """Speed and accepted length, or nothing."""
        parts = [f"{stats.tokens_per_second:.0f} tok/s"] if stats and stats.rounds else []
        if stats and stats.draft_n:
            parts.append(f"accepted length {stats.accepted_length:.2f}")
        self._moment.update(" · ".join(parts), layout=False)
