"""What can be done with what was said: to scroll, jump, mark, copy, and to see who proposed it."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content

from dspark_local.tui.origins import Origin
from dspark_local.tui.widgets.message import TINTS, Answer
from dspark_local.tui.widgets.prompt import Prompt
from dspark_local.tui.widgets.transcript import Transcript

if TYPE_CHECKING:
    from textual import events

LEGEND = Content.assemble(
    (" drafted, accepted ", TINTS[Origin.DRAFTED]), " ", (" target's own ", TINTS[Origin.OWN])
).markup


class Reading(Vertical):
    """Holds a transcript and a prompt, which keeps the focus. A turn that is marked is what keys work on."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("alt+up", "jump(-1)", "Message before", show=False, priority=True),
        Binding("alt+down", "jump(1)", "Message behind", show=False, priority=True),
        Binding("ctrl+up", "jump_code(-1)", "Code block before", show=False, priority=True),
        Binding("ctrl+down", "jump_code(1)", "Code block behind", show=False, priority=True),
        Binding("f5", "copy_answer", "Copy the answer", show=False, priority=True),
        Binding("f8", "copy_code", "Copy its last code block", show=False, priority=True),
        Binding("ctrl+t", "tint", "Tint", priority=True),
        Binding("pageup", "scroll(-1)", "Scroll up", show=False, priority=True),
        Binding("pagedown", "scroll(1)", "Scroll down", show=False, priority=True),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.tinted = False

    @property
    def prompt(self) -> Prompt:
        """Where the user writes."""
        return self.query_one(Prompt)

    @property
    def transcript(self) -> Transcript:
        """What was said."""
        return self.query_one(Transcript)

    def action_jump(self, by: int) -> None:
        """Mark a message: what copies, edits and switches then works on it."""
        self.transcript.jump(by)
        self.refresh_bindings()

    def action_jump_code(self, by: int) -> None:
        """Mark a code block."""
        self.transcript.jump_code(by)

    def action_tint(self) -> None:
        """Colour what was drafted and accepted, and what the target added; or show Markdown again."""
        self.tinted = not self.tinted
        self.transcript.tint(self.tinted)
        self.prompt.border_subtitle = LEGEND if self.tinted else ""

    def action_copy_answer(self) -> None:
        """The answer that is marked, or the last one, as Markdown."""
        marked = self.transcript.marked
        texts = [answer.text for answer in self.transcript.answers if answer.text]
        if isinstance(marked, Answer) and marked.text:
            texts = [marked.text]
        self._copy(texts[-1] if texts else "", "the answer")

    def action_copy_code(self) -> None:
        """The code block that is marked, or the last one."""
        self._copy(self.transcript.code, "the code block")

    def action_scroll(self, pages: int) -> None:
        """Leaf through the transcript, with the prompt keeping the focus."""
        self.transcript.page(pages)

    def on_key(self, event: events.Key) -> None:
        """Typing goes to the prompt, wherever a click has left the focus."""
        self.take(event)

    def take(self, event: events.Key) -> None:
        """Let the prompt have a key that is text."""
        if event.is_printable and event.character and self.screen.focused is not self.prompt:
            event.stop()
            self.prompt.focus()
            self.prompt.insert(event.character)

    def _copy(self, text: str, what: str) -> None:
        if text:
            self.app.copy_to_clipboard(text)
        self.notify(f"{what} is in the clipboard" if text else "there is none to copy", timeout=3)
