"""Everything that parts of the screen, and the threads behind it, tell each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.message import Message

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dspark_local.events import Finish
    from dspark_local.runtime import Runtime
    from dspark_local.tui.origins import Runs
    from dspark_local.types import Round, Stats


class LoadProgress(Message):
    """From the loading thread: how far a stage is, from 0 to 1."""

    def __init__(self, stage: str, share: float) -> None:
        self.stage = stage
        self.share = share
        super().__init__()


class Loaded(Message):
    """From the loading thread: the pair is ready."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        super().__init__()


class LoadFailed(Message):
    """From the loading thread: why there is no pair."""

    def __init__(self, error: Exception) -> None:
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


class Wrote(Message):
    """From the reader of an answer, at most RATE times a second: what came since the last one."""

    def __init__(self, runs: Runs, thinking: str, rounds: Sequence[Round], stats: Stats) -> None:
        self.runs = runs
        self.text = "".join(text for text, _ in runs)
        self.thinking = thinking
        self.rounds = rounds
        self.stats = stats
        super().__init__()


class Answered(Message):
    """From the reader of an answer: it is over; all of it was told before."""

    def __init__(self, finish: Finish) -> None:
        self.finish = finish
        super().__init__()


class Failed(Message):
    """From the reader of an answer: why it cannot go on."""

    def __init__(self, error: Exception) -> None:
        self.error = error
        super().__init__()
