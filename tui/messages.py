"""Everything that parts of the screen, and the threads behind it, tell each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.message import Message

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dspark_local.events import Finish
    from dspark_local.outlook import Outlook
    from dspark_local.runtime import Runtime
    from dspark_local.tui.commands import Command
    from dspark_local.tui.origins import Runs
    from dspark_local.tui.settings import Choice
    from dspark_local.tui.shelf import Item
    from dspark_local.tui.writing import Writing
    from dspark_local.types import Round, Stats


class LoadProgress(Message):
    """From the loading thread: how far a stage is, from 0 to 1."""

    def __init__(self, stage: str, share: float) -> None:
        self.stage = stage
        self.share = share
        super().__init__()


class Loaded(Message):
    """From the loading thread: the pair is ready."""

    def __init__(self, runtime: Runtime, choice: Choice) -> None:
        self.runtime = runtime
        self.choice = choice
        super().__init__()


class LoadFailed(Message):
    """From the loading thread: why there is no pair."""

    def __init__(self, error: Exception) -> None:
        self.error = error
        super().__init__()


class Stocked(Message):
    """From the thread that looks: the models there are, or why that is not known."""

    def __init__(self, items: Sequence[Item], error: Exception | None = None) -> None:
        self.items = items
        self.error = error
        super().__init__()


class Foreseen(Message):
    """From the thread that asks: what a model takes, or why that is not known."""

    def __init__(self, model: str, outlook: Outlook | Exception) -> None:
        self.model = model
        self.outlook = outlook
        super().__init__()


class Pulled(Message):
    """From a pull: the model is here, or why it is not."""

    def __init__(self, model: str, error: Exception | None) -> None:
        self.model = model
        self.error = error
        super().__init__()


class Warned(Message):
    """From the library's log, on any thread: one line for the user."""

    def __init__(self, text: str) -> None:
        self.text = text
        super().__init__()


class Submitted(Message):
    """From the prompt: the user sends this text; the prompt is empty again."""

    def __init__(self, text: str) -> None:
        self.text = text
        super().__init__()


class Commanded(Message):
    """From the dialogue: the user gave a command, and this behind its name."""

    def __init__(self, command: Command, argument: str) -> None:
        self.command = command
        self.argument = argument
        super().__init__()


class Branched(Message):
    """From a turn: the user wants what was said in its place before, or behind it."""

    def __init__(self, turn: int, by: int) -> None:
        self.turn = turn
        self.by = by
        super().__init__()


class Recalled(Message):
    """From the transcript: the user wants to see what was said before."""


class Begun(Message):
    """From the dialogue: another answer begins."""


class Shown(Message):
    """From the dialogue: another conversation is on the screen."""


class Told(Message):
    """From the reader of an answer; `writing` is which, where there may be another by the time that this arrives."""

    writing: Writing | None = None


class Wrote(Told):
    """At most RATE times a second: what came since the last one."""

    def __init__(self, runs: Runs, thinking: str, rounds: Sequence[Round], stats: Stats) -> None:
        self.runs = runs
        self.text = "".join(text for text, _ in runs)
        self.thinking = thinking
        self.rounds = rounds
        self.stats = stats
        super().__init__()


class Answered(Told):
    """It is over; all of it was told before."""

    def __init__(self, finish: Finish) -> None:
        self.finish = finish
        super().__init__()


class Failed(Told):
    """Why it cannot go on."""

    def __init__(self, error: Exception) -> None:
        self.error = error
        super().__init__()
