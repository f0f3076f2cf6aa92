"""What apps embed: a thread that owns an Engine, and generations that any thread or event loop reads."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import logging
import queue
import threading
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from dspark_local.chat import Message, Reasoning, TextStream
from dspark_local.errors import BackendError, ClosedError, DSparkError, UsageError
from dspark_local.events import Event, Finish, RoundDone, Text, Thinking, ToolCall
from dspark_local.prepare import prepare
from dspark_local.tools.toolset import AUTO, Tool, Toolset
from dspark_local.types import FinishReason, Round, SamplingParams, Stats, TokenLogprobs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping
    from collections.abc import Sequence as Many

    from dspark_local.backend.base import Vocab
    from dspark_local.engine import Engine
    from dspark_local.sampling.rule import Sampler
    from dspark_local.scheduling.policy import Policy
    from dspark_local.sequence import Sequence
    from dspark_local.tools.reader import CallReader

_logger = logging.getLogger(__name__)
MAX_TOKENS = 1 << 20  # "until the model ends or the context is full"


@dataclass(frozen=True, slots=True, kw_only=True)
class Info:
    """What a runtime runs: for people to see."""

    model: str
    drafter: str
    n_ctx: int
    n_slots: int
    block_size: int


class Runtime:
    """A loaded pair. Thread-safe; also a context manager. `dspark_local.load` makes one.

    `preset` is how answers are drawn where a request does not say; the model's own, unless replaced.
    """

    def __init__(
        self,
        engine: Engine,
        vocab: Vocab,
        *,
        model: str = "",
        preset: SamplingParams | None = None,
        plain: Callable[[], Runtime] | None = None,
        at_rest: Callable[[], None] | None = None,
    ) -> None:
        """Own an engine. `plain` makes what `plain()` returns; `at_rest` is called whenever nothing is left to do."""
        self.vocab = vocab
        self.preset = preset or SamplingParams()
        self.info = Info(
            model=model,
            drafter=engine.drafter.name,
            n_ctx=engine.target.n_ctx,
            n_slots=engine.target.n_slots,
            block_size=engine.drafter.block_size,
        )
        self._engine = engine
        self._plain = plain
        self._at_rest = at_rest or (lambda: None)
        self._inbox: queue.SimpleQueue[Generation | None] = queue.SimpleQueue()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._work, name="dspark-local", daemon=True)
        self._thread.start()
        atexit.register(self.close)  # a thread that dies inside llama.cpp would take the exit down with it

    def chat(
        self,
        messages: Many[Message | Mapping[str, Any]],
        sampling: SamplingParams | None = None,
        *,
        max_tokens: int | None = None,
        stop: Many[str] = (),
        draft: bool = True,
        tools: Many[Tool | Mapping[str, Any]] = (),
        tool_choice: str = AUTO,
    ) -> Generation:
        """Answer a conversation, drawn by `sampling` or by the preset.

        The model may call `tools`; `tool_choice` is auto, none, required (one call, of any of them) or a tool's name.
        Raises UsageError, ContextError or ClosedError here, others while iterating.
        """
        toolset = Toolset.of(self.vocab, tools, tool_choice)
        tokens = toolset.encode(messages)
        reasoning = Reasoning.behind(self.vocab, tokens)
        drawn = toolset.constrained(sampling or self.preset)
        return self._start(tokens, drawn, max_tokens, stop, draft=draft, reasoning=reasoning, toolset=toolset)

    def generate(
        self,
        prompt: str | Many[int],
        sampling: SamplingParams | None = None,
        *,
        max_tokens: int | None = None,
        stop: Many[str] = (),
        draft: bool = True,
    ) -> Generation:
        """Continue a text, or tokens, as they are. Raises as `chat` does."""
        tokens = self.vocab.encode(prompt, special=True) if isinstance(prompt, str) else list(prompt)
        return self._start(tokens, sampling, max_tokens, stop, draft=draft, reasoning=None)

    def plain(self) -> Runtime:
        """A second runtime over the same weights that decodes plainly, in a context of its own: to compare with.

        Close it too. Raises OutOfMemoryError, and UsageError where there is none.
        """
        if self._plain is None or self._closed.is_set():
            raise UsageError("this runtime has no plain one beside it")
        return self._plain()

    @property
    def policy(self) -> Policy:
        """How many tokens a round drafts and verifies. Set another one while nothing runs."""
        return self._engine.policy

    @policy.setter
    def policy(self, policy: Policy) -> None:
        self._engine.policy = policy

    def close(self) -> None:
        """Cancel what runs, and free the models; twice is fine."""
        if not self._closed.is_set():
            self._closed.set()
            self._inbox.put(None)
        self._thread.join()
        atexit.unregister(self.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _start(
        self,
        tokens: list[int],
        sampling: SamplingParams | None,
        max_tokens: int | None,
        stop: Many[str],
        *,
        draft: bool,
        reasoning: Reasoning | None,
        toolset: Toolset | None = None,
    ) -> Generation:
        if self._closed.is_set():
            raise ClosedError("this runtime is closed; load the model again")
        if max_tokens is not None and max_tokens < 1:
            raise UsageError(f"max-tokens must be 1 or more, not {max_tokens}")
        if any(not s for s in stop):
            raise UsageError("a stop string must not be empty")
        self._engine.check(tokens)
        room = min(max_tokens or MAX_TOKENS, self.info.n_ctx - len(tokens))
        request = Generation(
            tokens,
            prepare(sampling or self.preset, self.vocab, room),
            max_tokens or MAX_TOKENS,
            TextStream(self.vocab, tuple(stop), toolset.names() if toolset else {}),
            draft=draft,
            reasoning=reasoning,
            calls=toolset.reader() if toolset else None,
            stats=Stats(prompt_n=len(tokens)),
            wake=lambda: self._inbox.put(None),
        )
        self._inbox.put(request)
        if self._closed.is_set():  # meanwhile, perhaps too late for the thread to see the request
            request.fail(ClosedError("this runtime is closed; load the model again"))
        return request

    def _work(self) -> None:
        waiting: deque[Generation] = deque()
        running: dict[Sequence, Generation] = {}
        end: DSparkError = ClosedError("the runtime was closed while it answered")
        try:
            while not self._closed.is_set():
                if idle := not running and not waiting:
                    self._at_rest()
                self._receive(waiting, idle=idle)
                self._admit(waiting, running)
                self._round(running)
        except Exception as error:
            _logger.exception("the engine stopped")
            end = BackendError(f"the engine stopped by a bug of ours, please report it: {error!r}")
        finally:
            self._closed.set()
            self._receive(waiting, idle=False)
            for request in [*running.values(), *waiting]:
                request.fail(end)
            self._at_rest()
            self._engine.close()

    def _receive(self, waiting: deque[Generation], *, idle: bool) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                request = self._inbox.get(block=idle)
                idle = False
                if request is not None:
                    waiting.append(request)

    def _admit(self, waiting: deque[Generation], running: dict[Sequence, Generation]) -> None:
        while waiting and (self._engine.free or waiting[0].cancelled):
            request = waiting.popleft()
            if request.cancelled:
                request.finish(FinishReason.CANCELLED)
                continue
            sequence = self._engine.add(
                request.tokens, request.sampler, max_tokens=request.max_tokens, draft=request.draft
            )
            request.stats = sequence.stats
            running[sequence] = request

    def _round(self, running: dict[Sequence, Generation]) -> None:
        for sequence, request in list(running.items()):
            if request.cancelled:
                self._engine.finish(sequence, FinishReason.CANCELLED)
                running.pop(sequence).finish(FinishReason.CANCELLED)
        if not running:
            return
        try:
            records = self._engine.step()
        except DSparkError as error:
            for sequence in self._engine.abandon():
                running.pop(sequence).fail(error)
            return
        for sequence, record in records:
            request = running[sequence]
            kept = request.take(record)
            if request.stream.stopped:
                keep = len(sequence.tokens) - len(record.tokens) + kept
                self._engine.finish(sequence, FinishReason.STOP, keep=keep)
            if request.stream.stopped or sequence.finish_reason:
                reason = FinishReason.STOP if request.stream.stopped else sequence.finish_reason
                assert reason is not None
                running.pop(sequence).finish(reason)


@dataclass(eq=False)
class Generation:
    """An answer on its way: iterate over its events, in a thread or in an event loop, or ask for the `result`.

    Leaving the iteration early, or the `with` block, cancels it.
    """

    tokens: list[int]
    sampler: Sampler
    max_tokens: int
    stream: TextStream
    draft: bool
    reasoning: Reasoning | None
    calls: CallReader | None
    wake: Callable[[], None]
    stats: Stats = field(default_factory=Stats)
    cancelled: bool = False
    _events: queue.SimpleQueue[Event | DSparkError] = field(default_factory=queue.SimpleQueue)
    _arrived: Callable[[], None] | None = None  # tells an event loop that there is something to read
    _ended: bool = False
    _text: list[str] = field(default_factory=list)
    _generated: list[int] = field(default_factory=list)
    _logprobs: list[TokenLogprobs] = field(default_factory=list)
    _tool_calls: list[ToolCall] = field(default_factory=list)

    def cancel(self) -> None:
        """Stop as soon as the round that runs is over; from any thread."""
        self.cancelled = True
        self.wake()

    def result(self) -> Finish:
        """Wait for the end. Raises what went wrong."""
        for event in self:
            if isinstance(event, Finish):
                return event
        raise ClosedError("this generation was read to its end before")

    def __iter__(self) -> Iterator[Event]:
        try:
            while not self._ended:
                yield self._read(self._events.get())
        finally:
            self._leave()

    async def __aiter__(self) -> AsyncIterator[Event]:
        loop, arrived = asyncio.get_running_loop(), asyncio.Event()

        def tell() -> None:
            loop.call_soon_threadsafe(arrived.set)

        self._arrived = tell
        try:
            while not self._ended:
                try:
                    event = self._events.get_nowait()
                except queue.Empty:
                    await arrived.wait()
                    arrived.clear()
                    continue
                yield self._read(event)
        finally:
            self._arrived = None
            self._leave()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._leave()

    def _leave(self) -> None:
        if not self._ended:
            self.cancel()

    def _read(self, event: Event | DSparkError) -> Event:
        if isinstance(event, DSparkError):
            self._ended = True
            raise event
        self._ended = isinstance(event, Finish)
        return event

    # What follows is the runtime's side, on its thread.

    def take(self, record: Round) -> int:
        """Turn a round's tokens into text; returns how many of them count, should a stop string cut them."""
        kept = 0
        for token in record.tokens:
            kept += 1
            self._generated.append(token)
            self._say(self.stream.push(token))
            if self.stream.stopped:
                break
        self._logprobs += record.logprobs[:kept]
        self._put(RoundDone(record, self.stats.snapshot()))
        return kept

    def finish(self, reason: FinishReason) -> None:
        """Say the rest, and why it ends."""
        self._say(self.stream.flush(), final=True)
        stats, said = self.stats.snapshot(), "".join(self._text)
        lists = tuple(self._logprobs), tuple(self._tool_calls)
        self._put(Finish(reason, said, tuple(self._generated), stats, *lists, self.stream.found))

    def fail(self, error: DSparkError) -> None:
        """End with an error."""
        self._put(error)

    def _say(self, text: str, *, final: bool = False) -> None:
        runs = [(text, False)] if self.reasoning is None else self.reasoning.push(text, final=final)
        for run, thinking in runs:
            if thinking:
                self._put(Thinking(run))
            else:
                self._answer(run)
        if final:
            self._answer("", final=True)

    def _answer(self, text: str, *, final: bool = False) -> None:
        for part in [text] if self.calls is None else self.calls.push(text, final=final):
            if isinstance(part, ToolCall):
                self._tool_calls.append(part)
                self._put(part)
            elif part:
                self._text.append(part)
                self._put(Text(part))

    def _put(self, event: Event | DSparkError) -> None:
        self._events.put(event)
        if arrived := self._arrived:
            with contextlib.suppress(RuntimeError):  # the event loop was closed under the reader
                arrived()
