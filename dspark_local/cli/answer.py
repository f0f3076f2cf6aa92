"""An answer as it comes: text to standard output, figures to standard error, or both as one JSON object."""

from __future__ import annotations

import json
import signal
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from dspark_local.cli.main import INTERRUPTED
from dspark_local.cli.report import line, record
from dspark_local.events import Event, Finish, Text, Thinking

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dspark_local.backend.base import Vocab
    from dspark_local.generation import Generation

READER_GONE = 141  # 128 + SIGPIPE, as shells have it
DIM, PLAIN = "\x1b[2m", "\x1b[0m"


def write(generation: Generation, *, vocab: Vocab | None = None, seed: bool = False) -> int:
    """Write a generation to its end, or to Ctrl-C; returns the exit code.

    `vocab` makes it one JSON object; `seed`: the statistics tell it.
    """
    page = _Json(vocab) if vocab else _Page(seed=seed)
    try:
        with _interrupting(generation) as interrupted:
            for event in generation:
                page.take(event)
    except BrokenPipeError:
        return READER_GONE
    return INTERRUPTED if interrupted else 0


@contextmanager
def _interrupting(generation: Generation) -> Iterator[list[int]]:
    """Let Ctrl-C cancel, so that no event is lost halfway, and a second one end the program; yields the signals."""
    caught: list[int] = []

    def cancel(number: int, _frame: object) -> None:
        caught.append(number)
        generation.cancel()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:  # ignored, as behind nohup: so it stays
        yield caught
        return
    signal.signal(signal.SIGINT, cancel)
    try:
        yield caught
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


class _Page:
    """Text for people. Thinking is dimmed on standard error, if that is a terminal."""

    def __init__(self, *, seed: bool) -> None:
        self._seed = seed
        self._thinks = sys.stderr.isatty()
        self._last = "\n"

    def take(self, event: Event) -> None:
        if isinstance(event, Text):
            self._last = event.text
            _put(event.text)
        elif isinstance(event, Thinking) and self._thinks:
            sys.stderr.write(f"{DIM}{event.text}{PLAIN}")
            sys.stderr.flush()
        elif isinstance(event, Finish):
            if not self._last.endswith("\n"):
                _put("\n")
            sys.stderr.write(line(event, seed=self._seed) + "\n")
            sys.stderr.flush()


class _Json:
    """One object for programs, when all is said."""

    def __init__(self, vocab: Vocab) -> None:
        self._vocab = vocab
        self._thinking: list[str] = []

    def take(self, event: Event) -> None:
        if isinstance(event, Thinking):
            self._thinking.append(event.text)
        elif isinstance(event, Finish):
            _put(json.dumps(record(event, "".join(self._thinking), self._vocab)) + "\n")


def _put(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
