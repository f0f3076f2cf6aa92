"""One turn of the conversation: what the user said, what the model answers, or what went wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Collapsible, Markdown, Static

from dspark_local.tui.origins import Origin, merged
from dspark_local.tui.wording import count, failure, summary

if TYPE_CHECKING:
    from textual.app import ComposeResult
    from textual.widgets.markdown import MarkdownStream

    from dspark_local.events import Finish
    from dspark_local.tui.origins import Runs

TINTS = {  # underlined too, for who sees no colours
    Origin.DRAFTED: "$text-success on $success-muted",
    Origin.OWN: "underline $text-warning on $warning-muted",
}
MOST_SHOWN = 4000  # characters of what a user pasted; the model gets all of it


class UserMessage(Static):
    """The user's words as they are, never markup."""

    DEFAULT_CSS = """
    UserMessage {
        width: 1fr; height: auto; margin: 1 0 0 0; padding: 0 1;
        border-left: outer $primary; background: $boost; color: $foreground;
    }
    """

    def __init__(self, text: str, turn: int) -> None:
        self.turn = turn  # its place in the conversation
        hidden = len(text) - MOST_SHOWN
        shown = f"{text[:MOST_SHOWN]}\n… and {count(hidden, 'character')} more" if hidden > 0 else text
        super().__init__(shown, markup=False)


class Answer(Vertical):
    """The model's answer, growing."""

    DEFAULT_CSS = """
    Answer {
        width: 1fr; height: auto; margin: 1 0 0 0;
        Markdown { padding: 0 1; margin: 0; background: transparent; }
        Collapsible {
            display: none; border: none; padding: 0 0 0 1; background: transparent;
            CollapsibleTitle { padding: 0; color: $text-muted; background: transparent; }
            Contents { padding: 0 0 0 2; }
        }
        #tinted { display: none; padding: 0 1; }
        &.-tinted { Markdown { display: none; } #tinted { display: block; } }
        #thought { color: $text-muted; text-style: dim; }
        #summary { color: $text-muted; padding: 0 1; }
    }
    """

    def __init__(self, turn: int, text: str = "", thinking: str = "") -> None:
        super().__init__()
        self.turn = turn  # its place in the conversation
        self.text = text
        self._markdown = Markdown(text)
        self._tinted = Static(text, markup=False, id="tinted")
        self._runs: Runs = []
        self._thought = Static(markup=False, id="thought")
        self._thinking = Collapsible(self._thought, title="thinking")
        self._summary = Static("" if text else "reading the prompt …", markup=False, id="summary")
        self._summary.display = not text
        self._stream: MarkdownStream | None = None
        self._thoughts = ""
        self._think(thinking)

    def compose(self) -> ComposeResult:
        """Thoughts, answer in one form or the other, figures."""
        yield self._thinking
        yield self._markdown
        yield self._tinted
        yield self._summary

    def tint(self, on: bool) -> None:  # noqa: FBT001 - a switch
        """Show the text as it was written, by origin, instead of what its Markdown means."""
        self.set_class(on, "-tinted")
        self._paint()

    async def write(self, runs: Runs, thinking: str) -> None:
        """Append what came."""
        self._think(thinking)
        if text := "".join(text for text, _ in runs):
            self.text += text
            self._runs = merged([*self._runs, *runs])
            self._paint()
            self._stream = self._stream or Markdown.get_stream(self._markdown)
            await self._stream.write(text)
        if self._summary.display and (text or thinking):
            self._summary.display = False

    async def finish(self, finish: Finish) -> None:
        """Nothing more comes; say how it went."""
        await self.close()
        self._summary.update(summary(finish.stats, finish.reason))
        self._summary.display = True

    async def break_off(self) -> None:
        """It failed; keep what there is."""
        await self.close()
        self._summary.update("broken off" if self.text else "")
        self._summary.display = bool(self.text)

    def _paint(self) -> None:
        if self._runs and self.has_class("-tinted"):
            self._tinted.update(Content.assemble(*((text, TINTS[origin]) for text, origin in self._runs)))

    def _think(self, thinking: str) -> None:
        if thinking:
            self._thoughts += thinking
            self._thinking.display = True
            self._thinking.title = f"thinking · {count(len(self._thoughts.split()), 'word')}"
            self._thought.update(self._thoughts.strip())

    async def close(self) -> None:
        """Show what the stream still holds."""
        if self._stream:
            await self._stream.stop()
            self._stream = None


class ErrorMessage(Static):
    """What went wrong, and the way on."""

    DEFAULT_CSS = """
    ErrorMessage {
        width: 1fr; height: auto; margin: 1 0 0 0; padding: 0 1;
        border-left: outer $error; background: $error-muted; color: $text-error;
    }
    """

    def __init__(self, error: Exception, way_on: str) -> None:
        super().__init__(f"{failure(error)}\n{way_on}", markup=False)
