"""The keys, read from the bindings that are in force, so that it cannot be out of date."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Static

from dspark_local.tui.screens.card import Card

if TYPE_CHECKING:
    from collections.abc import Iterable

    from textual.app import ComposeResult
    from textual.binding import ActiveBinding, BindingType

ABOUT = (
    "The drafter proposes tokens, the target checks them in one go: the text is the target's own. Accepted length "
    "counts the tokens that a round yields, the target's own token included."
)


class HelpScreen(Card[None]):
    """A card over the chat; any of its keys closes it."""

    BINDINGS: ClassVar[list[BindingType]] = [("f1,q,enter", "leave", "Close")]
    DEFAULT_CSS = """
    HelpScreen {
        #card { width: 64; max-width: 90%; padding: 0 2; }
        #about { color: $text-muted; margin-top: 1; }
    }
    """

    def __init__(self, bindings: Iterable[ActiveBinding]) -> None:
        super().__init__()
        self._in_force = [b for b in bindings if b.binding.description and not b.binding.system]

    def compose(self) -> ComposeResult:
        """One line a binding."""
        with VerticalScroll(id="card") as card:
            card.border_title = "keys"
            yield Static(self._keys(), id="keys")
            yield Static(ABOUT, id="about")

    def _keys(self) -> Content:
        rows: dict[str, list[str]] = {}
        for active in self._in_force:
            rows.setdefault(active.binding.description, []).append(self.app.get_key_display(active.binding))
        lines = [(", ".join(dict.fromkeys(keys)), what) for what, keys in rows.items()]
        width = max((len(keys) for keys, _ in lines), default=0)
        return Content("\n").join(
            Content.assemble((f"{keys:<{width}}", "bold $primary"), f"  {what}") for keys, what in lines
        )
