"""Where the user writes: Enter sends, a newline is Shift+Enter or Ctrl+J."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual.app import SuspendNotSupported
from textual.binding import Binding, BindingType
from textual.widgets import TextArea

from dspark_local.errors import UsageError
from dspark_local.tui.editor import edited
from dspark_local.tui.folds import Folds
from dspark_local.tui.messages import Submitted

if TYPE_CHECKING:
    from collections.abc import Callable

    from textual import events


class Prompt(TextArea):
    """A text area that grows with its text, up to a third of the screen."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "send", "Send", show=False),
        Binding("shift+enter,ctrl+j,alt+enter", "newline", "New line", show=False),
        Binding("tab", "complete", "Complete a /command or @path", show=False),
        Binding("up", "earlier", "Earlier message", show=False),
        Binding("down", "later", "Later message", show=False),
        Binding("ctrl+g", "edit_outside", "$EDITOR", show=False),
        Binding("ctrl+d", "delete_or_quit", "Quit, if nothing is written", show=False),
    ]
    DEFAULT_CSS = """
    Prompt {
        height: auto; min-height: 3; max-height: 33vh; padding: 0 1;
        background: $background; border: round $foreground 30%;
        &:focus { border: round $primary; }
    }
    """

    def __init__(self, earlier: Callable[[], list[str]], complete: Callable[[str], str]) -> None:
        self._earlier = earlier  # messages, the latest last
        self._complete = complete  # the rest of what stands before the cursor
        self._history: list[str] = []  # while the user leafs: those, and what was being written
        self._at = 0
        self._folds = Folds()
        super().__init__(
            placeholder="Ask something", highlight_cursor_line=False, show_line_numbers=False, tab_behavior="focus"
        )

    def on_mount(self) -> None:
        """Stand still for who wants no motion."""
        self.cursor_blink = self.app.animation_level != "none"

    async def on_key(self, event: events.Key) -> None:
        """Obey our keys in their turn: as bindings they would overtake, or be overtaken by, keys typed in a burst."""
        action = _ACTIONS.get(event.key)
        if action == "complete" and not self.suggestion:
            return
        if action:
            event.stop()
            event.prevent_default()
            await self.run_action(action)

    def on_paste(self, event: events.Paste) -> None:
        """Take it in; a mark stands for a long one."""
        event.text = self._folds.fold(event.text)

    def action_send(self) -> None:
        """Tell the screen, unless there is nothing to send."""
        if self.text.strip():
            text = self._folds.unfold(self.text).strip("\n")
            self.clear()
            self._history = []
            self.post_message(Submitted(text))

    def action_newline(self) -> None:
        """Break the line where the cursor is."""
        start, end = self.selection
        self.replace("\n", start, end, maintain_selection_offset=False)

    def action_complete(self) -> None:
        """Take what is suggested."""
        self.insert(self.suggestion)

    def action_earlier(self) -> None:
        """A line up; from the first one, the message before."""
        if self._line > 0:
            self.action_cursor_up()
        else:
            self._recall(-1)

    def action_later(self) -> None:
        """A line down; from the last one, the message behind: what was being written comes last."""
        if self._line < self.wrapped_document.height - 1:
            self.action_cursor_down()
        else:
            self._recall(1)

    def _recall(self, by: int) -> None:
        if not self._history or self.text != self._history[self._at]:  # begin to leaf, or begin anew after a change
            self._history = [*self._earlier(), self.text]
            self._at = len(self._history) - 1
        at = min(len(self._history) - 1, max(0, self._at + by))
        if at != self._at:
            self._at = at
            self.write(self._history[at])

    def action_edit_outside(self) -> None:
        """Write in the user's own editor."""
        try:
            with self.app.suspend():
                self.write(edited(self._folds.unfold(self.text)))
        except (UsageError, SuspendNotSupported) as error:
            self.notify(str(error), severity="warning", timeout=5, markup=False)

    def update_suggestion(self) -> None:
        """The rest of a command, or of a path behind an @; Tab and Right take it."""
        row, column = self.cursor_location
        at_end = (row, column) == self.document.end
        self.suggestion = self._complete(self.text) if at_end else ""

    @property
    def _line(self) -> int:
        return self.wrapped_document.location_to_offset(self.cursor_location).y

    def action_delete_or_quit(self) -> None:
        """Ctrl+D as in a shell."""
        if self.text:
            self.action_delete_right()
        else:
            self.app.exit()

    def give_back(self, text: str) -> None:
        """Put what was sent before whatever was written since."""
        folded = self._folds.fold(text)
        self._put(f"{folded}\n{self.text}" if self.text else folded)

    def write(self, text: str) -> None:
        """Put a text in the place of what is there."""
        self._put(self._folds.fold(text))

    def _put(self, text: str) -> None:
        self.text = text
        self.move_cursor(self.document.end)


_ACTIONS = {binding.key: binding.action for binding in Binding.make_bindings(Prompt.BINDINGS)}
