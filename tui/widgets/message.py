"""One turn of the conversation: what the user said, what the model answers, or what went wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Collapsible, Markdown, Static

from dspark_local.tui.messages import Branched
from dspark_local.tui.origins import Origin, merged
from dspark_local.tui.wording import count, failure, summary

if TYPE_CHECKING:
    from textual import events
    from textual.app import ComposeResult
    from textual.widgets.markdown import MarkdownStream

    from dspark_local.events import Finish
    from dspark_local.tui.origins import Runs

TINTS = {  # underlined too, for who sees no colours
    Origin.DRAFTED: "$text-success on $success-muted",
    Origin.OWN: "underline $text-warning on $warning-muted",
    Origin.UNKNOWN: "",
}
MOST_SHOWN = 4000  # characters of what a user pasted; the model gets all of it


class Turn(Vertical):
    """One turn of the conversation, `turn` its place there: it can be marked, and says where it has siblings."""

    DEFAULT_CSS = """
    Turn {
        width: 1fr; height: auto; margin: 1 0 0 0;
        border-left: blank;
        &.-marked { border-left: outer $accent; }
    }
    """

    def __init__(self, turn: int) -> None:
        super().__init__()
        self.turn = turn
        self.place = Place(turn)


class Place(Static):
    """Which of a turn's versions this is; a click at its left or its right shows another."""

    DEFAULT_CSS = """
    Place { width: auto; height: 1; padding: 0 1; color: $text-muted; display: none; &:hover { color: $text-accent; } }
    """

    def __init__(self, turn: int) -> None:
        super().__init__(markup=False)
        self._turn = turn

    def show(self, at: int, among: int) -> None:
        """`2/3` between arrows; nothing for the only one."""
        self.display = among > 1
        self.update(f"◂ {at}/{among} ▸")

    def on_click(self, event: events.Click) -> None:
        """The one before, or the one behind."""
        event.stop()
        self.post_message(Branched(self._turn, -1 if event.x < self.size.width / 2 else 1))


class UserMessage(Turn):
    """The user's words as they are, never markup."""

    DEFAULT_CSS = """
    UserMessage {
        border-left: outer $primary; background: $boost; color: $foreground;
        .words { width: 1fr; height: auto; padding: 0 1; }
    }
    """

    def __init__(self, text: str, turn: int) -> None:
        super().__init__(turn)
        hidden = len(text) - MOST_SHOWN
        self._shown = f"{text[:MOST_SHOWN]}\n… and {count(hidden, 'character')} more" if hidden > 0 else text

    def compose(self) -> ComposeResult:
        """Words, and place."""
        yield Static(self._shown, markup=False, classes="words")
        yield self.place


class Answer(Turn):
    """The model's answer, growing."""

    DEFAULT_CSS = """
    Answer {
        Markdown { padding: 0 1; margin: 0; background: transparent; }
        MarkdownFence.-marked { border-left: outer $accent; }
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
        super().__init__(turn)
        self.text = text
        self._markdown = Markdown(text)
        self._tinted = Static(text, markup=False, id="tinted")
        self._runs: Runs = [(text, Origin.UNKNOWN)] if text else []
        self._thought = Static(markup=False, id="thought")
        self._thinking = Collapsible(self._thought, title="thinking")
        self._summary = Static(markup=False, id="summary")
        self._summary.display = False
        self._stream: MarkdownStream | None = None
        self._thoughts = ""
        self._think(thinking)

    def compose(self) -> ComposeResult:
        """Thoughts, answer in one form or the other, figures."""
        yield self._thinking
        yield self._markdown
        yield self._tinted
        yield self._summary
        yield self.place

    def say(self, words: str) -> None:
        """In the place of figures."""
        self._summary.update(words)
        self._summary.display = bool(words)

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
            self.say("")

    async def finish(self, finish: Finish) -> None:
        """Nothing more comes; say how it went."""
        await self.close()
        self.say(summary(finish.stats, finish.reason))

    async def break_off(self) -> None:
        """It failed; keep what there is."""
        await self.close()
        self.say("broken off" if self.text else "")

    async def on_unmount(self) -> None:
        """The stream ends with what it writes to."""
        await self.close()

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
