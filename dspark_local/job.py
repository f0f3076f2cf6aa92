"""One request as the runtime's thread has it: what is asked, and the events that it writes for whoever reads them.

Between the two lies a queue and no lock, so that a signal handler or the garbage collector may interrupt either
anywhere. A reader that falls behind holds nobody up: beyond MOST_UNREAD events, text goes on gathering in one piece of
each kind and of the rounds only the latest stays, with the sums of all.
"""

from __future__ import annotations

import contextlib
import math
import queue
import time
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, Self

from dspark_local.errors import DSparkError, UsageError
from dspark_local.events import Event, Finish, RoundDone, Text, Thinking, ToolCall
from dspark_local.types import FinishReason, Round, Stats, TokenLogprobs, is_whole

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Sequence as Many

    from dspark_local.chat import Reasoning, TextStream
    from dspark_local.sampling.rule import Sampler
    from dspark_local.tools.reader import CallReader

MOST_UNREAD = 2048
MAX_TOKENS = 1 << 20  # "until the model ends or the context is full"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What ends an answer before the model does, and whether it is drafted. Raises UsageError."""

    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    timeout: float | None = None  # seconds from `asked`
    draft: bool = True
    asked: float = field(default_factory=time.monotonic)

    @classmethod
    def of(cls, max_tokens: int | None, stop: str | Many[str], timeout: float | None, *, draft: bool) -> Self:
        """From what a caller says; a single string is one to stop at, not its characters."""
        stops = (stop,) if isinstance(stop, str) else tuple(stop)
        return cls(max_tokens=max_tokens, stop=stops, timeout=timeout, draft=draft)

    def __post_init__(self) -> None:
        if self.max_tokens is not None and not (is_whole(self.max_tokens) and self.max_tokens >= 1):
            raise UsageError(f"max-tokens must be a whole number, 1 or more, not {self.max_tokens}")
        if not all(self.stop):
            raise UsageError("a stop string must not be empty")
        if self.timeout is not None and not self.timeout > 0:
            raise UsageError(f"a timeout must be more than 0 seconds, not {self.timeout:g}")

    @property
    def deadline(self) -> float:
        """When it is out of time, by the monotonic clock."""
        return math.inf if self.timeout is None else self.asked + self.timeout


@dataclass(slots=True, eq=False)
class Job:
    """Written by the runtime's thread, read by any other; either may set `cancelled`."""

    tokens: list[int]
    sampler: Sampler
    stream: TextStream
    limits: Limits
    reasoning: Reasoning | None = None
    calls: CallReader | None = None
    stats: Stats = field(init=False)
    cancelled: bool = False
    end: Finish | DSparkError | None = None  # written last
    listeners: list[Callable[[], object]] = field(default_factory=list)  # event loops that wait for something to read
    _events: queue.SimpleQueue[Event | DSparkError] = field(default_factory=queue.SimpleQueue)
    _unread: list[Text | Thinking | ToolCall] = field(default_factory=list)  # beyond MOST_UNREAD
    _latest: RoundDone | None = None  # likewise
    _text: list[str] = field(default_factory=list)
    _generated: list[int] = field(default_factory=list)
    _logprobs: list[TokenLogprobs] = field(default_factory=list)
    _tool_calls: list[ToolCall] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.stats = Stats(seed=self.sampler.seed, prompt_n=len(self.tokens))

    @property
    def max_tokens(self) -> int:
        """Most tokens of the answer."""
        return self.limits.max_tokens or MAX_TOKENS

    @property
    def over(self) -> FinishReason | None:
        """Why it must not go on, if so."""
        if self.cancelled:
            return FinishReason.CANCELLED
        return FinishReason.TIMEOUT if time.monotonic() >= self.limits.deadline else None

    @property
    def satisfied(self) -> bool:
        """Whether nothing of what comes is wanted: a stop string was found, or the only call."""
        return self.stream.stopped or (self.calls is not None and self.calls.over)

    def read(self, *, wait: bool) -> Event | DSparkError:
        """The next event; the end again and again, for every reader. Raises queue.Empty where it should not wait."""
        end = self.end  # looked at before the queue: once it is there, so is all before it
        try:
            event = self._events.get_nowait()
        except queue.Empty:
            if end is not None:
                return end
            if not wait:
                raise
            event = self._events.get()
        if event is self.end:
            self._events.put(event)  # others may wait for it
        return event

    def take(self, record: Round) -> int:
        """Turn a round's tokens into text; returns how many of them count, should one satisfy it."""
        kept = 0
        for token in record.tokens:
            kept += 1
            self._generated.append(token)
            self._say(self.stream.push(token))
            if self.satisfied:
                break
        self._logprobs += record.logprobs[:kept]
        self._write(RoundDone(record, self.stats.snapshot()))
        return kept

    def finish(self, reason: FinishReason) -> None:
        """Say the rest, and why it ends."""
        self._say(self.stream.flush(), final=True)
        stats, said = self.stats.snapshot(), "".join(self._text)
        lists = tuple(self._logprobs), tuple(self._tool_calls)
        self._end(Finish(reason, said, tuple(self._generated), stats, *lists, self.stream.found))

    def fail(self, error: DSparkError) -> None:
        """End with an error."""
        self._end(error)

    def _say(self, text: str, *, final: bool = False) -> None:
        runs = [(text, False)] if self.reasoning is None else self.reasoning.push(text, final=final)
        for run, thinking in runs:
            if thinking:
                self._write(Thinking(run))
            else:
                self._answer(run)
        if final:
            self._answer("", final=True)

    def _answer(self, text: str, *, final: bool = False) -> None:
        for part in [text] if self.calls is None else self.calls.push(text, final=final):
            if isinstance(part, ToolCall):
                self._tool_calls.append(part)
                self._write(part)
            elif part:
                self._text.append(part)
                self._write(Text(part))

    def _write(self, event: Text | Thinking | ToolCall | RoundDone) -> None:
        if self._events.qsize() < MOST_UNREAD:
            self._catch_up()
            self._put(event)
        elif isinstance(event, RoundDone):
            self._latest = event
        else:
            self._unread.append(event)

    def _end(self, event: Finish | DSparkError) -> None:
        self._catch_up()
        self.end = event
        self._put(event)

    def _catch_up(self) -> None:
        """Write what was held back: text in runs of one kind, calls each by itself, then the latest round."""
        for kind, run in groupby(self._unread, key=type):
            pieces = list(run)
            calls = [piece for piece in pieces if isinstance(piece, ToolCall)]
            text = "".join(piece.text for piece in pieces if not isinstance(piece, ToolCall))
            for event in calls or [kind(text)]:
                self._put(event)
        if self._latest:
            self._put(self._latest)
        self._unread, self._latest = [], None

    def _put(self, event: Event | DSparkError) -> None:
        self._events.put(event)
        for tell in tuple(self.listeners):
            with contextlib.suppress(RuntimeError):  # the event loop was closed under the reader
                tell()
