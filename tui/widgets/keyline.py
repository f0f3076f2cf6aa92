"""The line at the bottom: the keys that are in force now.

Textual's own footer makes new widgets whenever they change, and keeps the old ones until the program ends.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual.content import Content
from textual.style import Style
from textual.widgets import Static

if TYPE_CHECKING:
    from textual.screen import Screen


class KeyLine(Static):
    """Keys and what they do, each of which can be clicked; `compact`: with less space between them."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {"key"}
    DEFAULT_CSS = """
    KeyLine {
        dock: bottom; height: 1; width: 1fr; text-wrap: nowrap;
        background: $footer-background; color: $footer-foreground;
        & > .key { color: $footer-key-foreground; text-style: bold; }
    }
    """

    def __init__(self, *, compact: bool = False) -> None:
        super().__init__(markup=False)
        self._before = "" if compact else " "

    def on_mount(self) -> None:
        """Whenever they change."""
        self.screen.bindings_updated_signal.subscribe(self, self._changed)

    def _changed(self, screen: Screen[object]) -> None:
        if screen is self.screen:
            self.show()

    def show(self) -> None:
        """One for each action that is allowed now."""
        bindings = [bound.binding for bound in self.screen.active_bindings.values() if bound.enabled]
        by_action = {binding.action: binding for binding in reversed(bindings) if binding.show}
        parts: list[Content] = []
        for binding in reversed(by_action.values()):
            key = Content.assemble(self._before, (self.app.get_key_display(binding), ".key"))
            pressed = Style.from_meta({"@click": f"app.simulate_key({binding.key!r})"})
            parts.append(Content.assemble(key, f" {binding.description} ").stylize(pressed))
        self.update(Content("").join(parts), layout=False)
