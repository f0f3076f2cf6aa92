"""Where the user writes: Enter sends, a newline is Shift+Enter or Ctrl+J."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType
from textual.widgets import TextArea

from dspark_local.tui.messages import Submitted

if TYPE_CHECKING:
    from textual import events


class Prompt(TextArea):
    """A text area that grows with its text, up to a third of the screen."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "send", "Send", show=False),
        Binding("shift+enter,ctrl+j,alt+enter", "newline", "New line", show=False),
        Binding("ctrl+d", "delete_or_quit", "Quit, if nothing is written", show=False),
    ]
    DEFAULT_CSS = """
    Prompt {
        height: auto; min-height: 3; max-height: 33vh; padding: 0 1;
        background: $background; border: round $foreground 30%;
        &:focus { border: round $primary; }
    }
    """

    def __init__(self) -> None:
        super().__init__(
            placeholder="Ask something", highlight_cursor_line=False, show_line_numbers=False, tab_behavior="focus"
        )

    async def on_key(self, event: events.Key) -> None:
        """Obey our keys in their turn: as bindings they would overtake, or be overtaken by, keys typed in a burst."""
        if action := _ACTIONS.get(event.key):
            event.stop()
            event.prevent_default()
            await self.run_action(action)

    def action_send(self) -> None:
        """Tell the screen, unless there is nothing to send."""
        if self.text.strip():
            text = self.text.strip("\n")
            self.clear()
            self.post_message(Submitted(text))

    def action_newline(self) -> None:
        """Break the line where the cursor is."""
        start, end = self.selection
        self.replace("\n", start, end, maintain_selection_offset=False)

    def action_delete_or_quit(self) -> None:
        """Ctrl+D as in a shell."""
        if self.text:
            self.action_delete_right()
        else:
            self.app.exit()

    def give_back(self, text: str) -> None:
        """Put what was sent before whatever was written since."""
        self.text = f"{text}\n{self.text}" if self.text else text
        self.move_cursor(self.document.end)


_ACTIONS = {binding.key: binding.action for binding in Binding.make_bindings(Prompt.BINDINGS)}
