"""Keys and commands, read from the bindings that are in force and from the table of commands: never out of date."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Static

from dspark_local.tui.commands import COMMANDS
from dspark_local.tui.screens.card import Card
from dspark_local.tui.widgets.keyline import KeyLine

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from textual.app import ComposeResult
    from textual.binding import ActiveBinding, BindingType

ABOUT = (
    "The drafter proposes tokens, the target checks them in one go: the text is the target's own. Accepted length "
    "counts the tokens that a round yields, the target's own token included."
)


class HelpScreen(Card[None]):
    """A card over the chat; any of its keys closes it."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("f1,q,enter", "leave", show=False)]
    DEFAULT_CSS = """
    HelpScreen {
        #card { width: 64; max-width: 90%; padding: 0 2; }
        #commands, #about { margin-top: 1; }
        #about { color: $text-muted; }
    }
    """

    def __init__(self, bindings: Iterable[ActiveBinding]) -> None:
        super().__init__()
        self._in_force = [b for b in bindings if b.binding.description and not b.binding.system]

    def compose(self) -> ComposeResult:
        """One line a binding, one a command."""
        with VerticalScroll(id="card") as card:
            card.border_title = "keys and commands"
            yield Static(_table(self._keys()), id="keys")
            yield Static(_table([(f"/{c.name} {c.takes}".rstrip(), c.what) for c in COMMANDS]), id="commands")
            yield Static(ABOUT, id="about")
        yield KeyLine()

    def _keys(self) -> list[tuple[str, str]]:
        rows: dict[str, list[str]] = {}
        for active in self._in_force:
            rows.setdefault(active.binding.description, []).append(self.app.get_key_display(active.binding))
        return [(", ".join(dict.fromkeys(keys)), what) for what, keys in rows.items()]


def _table(lines: Sequence[tuple[str, str]]) -> Content:
    width = max((len(name) for name, _ in lines), default=0)
    return Content("\n").join(
        Content.assemble((f"{name:<{width}}", "bold $primary"), f"  {what}") for name, what in lines
    )
