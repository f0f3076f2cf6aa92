"""One turn of the conversation: what the user said, what the model answers, or what went wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.containers import Vertical
from textual.widgets import Collapsible, Static

from dspark_local.tui.messages import Branched
from dspark_local.tui.origins import Origin, merged
from dspark_local.tui.prose.markdown import Markdown
from dspark_local.tui.prose.plain import Plain
from dspark_local.tui.widgets.prose import Prose
from dspark_local.tui.wording import count, failure, summary

if TYPE_CHECKING:
    from textual import events
    from textual.app import ComposeResult

    from dspark_local.events import Finish
    from dspark_local.tui.origins import Runs

TINTS = {  # underlined too, for who sees no colours
    Origin.DRAFTED: "$text-success on $success-muted",
    Origin.OWN: "underline $text-warning on $warning-muted",
    Origin.UNKNOWN: "",
}
MOST_SHOWN = 4000  # characters of what a user pasted; the model gets all of it


def painted(runs: Runs) -> list[tuple[str, str]]:
    """In the styles of their origins."""
    return [(text, TINTS[origin]) for text, origin in runs]


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
        & > Prose { padding: 0 1; }
        &.-written > Prose { padding: 0 1 1 1; }
        #summary { color: $text-muted; padding: 0 1; }
    }
    """

    def __init__(self, turn: int, text: str = "", thinking: str = "") -> None:
        super().__init__(turn)
        self.text = ""
        self.runs: list[tuple[str, Origin]] = []
        self.prose = Prose(Markdown())
        self._tinted = False
        self._thoughts = Thoughts()
        self._summary = Static(markup=False, id="summary")
        self._summary.display = False
        self.write([(text, Origin.UNKNOWN)] if text else [], thinking)

    def compose(self) -> ComposeResult:
        """Thoughts, answer, figures."""
        yield self._thoughts
        yield self.prose
        yield self._summary
        yield self.place

    def say(self, words: str) -> None:
        """In the place of figures."""
        self._summary.update(words)
        self._summary.display = bool(words)

    def tint(self, on: bool) -> None:  # noqa: FBT001 - a switch
        """Show the text as it was written, by origin, instead of what its Markdown means."""
        if on != self._tinted:
            self._tinted = on
            self.prose.show(Plain() if on else Markdown())
            self.prose.write(painted(self.runs))

    def write(self, runs: Runs, thinking: str) -> None:
        """Append what came."""
        if thinking:
            self._thoughts.write(thinking)
        if runs:
            self.text += "".join(text for text, _ in runs)
            self.runs[-1:] = merged([*self.runs[-1:], *runs])
            self.add_class("-written")
            self.prose.write(painted(runs))
        if self._summary.display and (runs or thinking):
            self.say("")

    def finish(self, finish: Finish) -> None:
        """Nothing more comes; say how it went."""
        self.say(summary(finish.stats, finish.reason))

    def break_off(self) -> None:
        """It failed; keep what there is."""
        self.say("broken off" if self.text else "")


class Thoughts(Collapsible):
    """What the model thought before it answered: folded, with a counter."""

    DEFAULT_CSS = """
    Thoughts {
        display: none; border: none; padding: 0 0 0 1; background: transparent;
        CollapsibleTitle { padding: 0; color: $text-muted; background: transparent; }
        Contents { padding: 0 0 0 2; }
        Prose { color: $text-muted; text-style: dim; }
    }
    """

    def __init__(self) -> None:
        self._prose = Prose(Plain())
        self._text = ""
        super().__init__(self._prose, title="thinking")

    def write(self, text: str) -> None:
        """Append what came."""
        more = text if self._text else text.lstrip()
        self._text += more
        self.display = bool(self._text)
        self.title = f"thinking · {count(len(self._text.split()), 'word')}"
        self._prose.write([(more, "")])


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
