"""Where requests become answers: within the limits, counted, and given up when nobody wants them any more."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Self, TypeVar

from dspark_local.errors import ContextError, DSparkError
from dspark_local.events import Finish, RoundDone, Text, Thinking, ToolCall
from dspark_local.server.errors import Refusal
from dspark_local.server.metrics import Metrics
from dspark_local.tools.toolset import AUTO, Toolset

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from dspark_local.chat import Message
    from dspark_local.generation import Generation
    from dspark_local.runtime import Runtime
    from dspark_local.server.limits import Limits
    from dspark_local.tools.toolset import Tool
    from dspark_local.types import SamplingParams, TokenLogprobs

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """A request, whatever protocol it came by: a conversation, or a `prompt` to be continued as it is."""

    messages: list[Message] = field(default_factory=list)
    prompt: str | list[int] | None = None
    sampling: SamplingParams
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    tools: tuple[Tool, ...] = ()
    tool_choice: str = AUTO
    parallel: bool = True  # whether an answer may hold several calls
    chat_template_kwargs: Mapping[str, Any] | None = None
    begun: str = ""  # how the answer begins; only what follows is told


@dataclass(slots=True)
class Part:
    """What a round added to an answer."""

    text: str = ""
    thinking: str = ""
    calls: list[ToolCall] = field(default_factory=list)
    logprobs: tuple[TokenLogprobs, ...] = ()

    def __add__(self, other: Part) -> Part:
        text, thinking, calls = self.text + other.text, self.thinking + other.thinking, self.calls + other.calls
        return Part(text, thinking, calls, self.logprobs + other.logprobs)

    def __bool__(self) -> bool:
        return bool(self.text or self.thinking or self.calls or self.logprobs)


class Desk:
    """Takes requests for one runtime."""

    def __init__(self, runtime: Runtime, limits: Limits, *, name: str | None = None) -> None:
        """`name` is what clients call the model; its own, if None."""
        self.runtime = runtime
        self.limits = limits
        self.name = name or runtime.info.model
        self.metrics = Metrics(runtime)

    def check(self, model: str) -> None:
        """Raise Refusal unless this is the model's name."""
        if model != self.name:
            raise Refusal(
                HTTPStatus.NOT_FOUND,
                f"there is no model {model!r} here, only {self.name!r}",
                code="model_not_found",
                param="model",
            )

    async def take(self, ask: Ask) -> Job:
        """Begin an answer. Raises Refusal, or what the runtime raises."""
        return Job(await _in_thread(lambda: self._begin(ask)), ask, self)

    async def count(self, ask: Ask) -> int:
        """Tokens of its conversation."""
        return await _in_thread(lambda: len(self._encoded(ask)))

    def _begin(self, ask: Ask) -> Generation:
        most = self.limits.prompt
        if most is not None and (n := len(self._encoded(ask))) > most:
            raise ContextError(f"the prompt has {n} tokens, and this server takes {most}")
        options: dict[str, Any] = {"max_tokens": ask.max_tokens or self.limits.max_tokens, "stop": ask.stop}
        if ask.prompt is not None:
            return self.runtime.generate(ask.prompt, ask.sampling, **options)
        return self.runtime.chat(
            ask.messages,
            ask.sampling,
            tools=ask.tools,
            tool_choice=ask.tool_choice,
            parallel_tool_calls=ask.parallel,
            chat_template_kwargs=ask.chat_template_kwargs,
            begun=ask.begun,
            **options,
        )

    def _encoded(self, ask: Ask) -> list[int]:
        vocab = self.runtime.vocab
        if ask.prompt is None:
            toolset = Toolset.of(vocab, ask.tools, ask.tool_choice)
            return toolset.encode(ask.messages, ask.chat_template_kwargs) + vocab.encode(ask.begun, special=False)
        return vocab.encode(ask.prompt, special=True) if isinstance(ask.prompt, str) else ask.prompt


async def _in_thread(work: Callable[[], T]) -> T:
    """Tokenise and compile grammars without holding up the event loop."""
    task = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        task.add_done_callback(_abandon)
        raise
    except RecursionError:
        raise Refusal(HTTPStatus.BAD_REQUEST, "the tools or the schema are nested too deeply", code="invalid") from None


def _abandon(task: asyncio.Future[Any]) -> None:
    """Nobody waits for this any more."""
    if not task.cancelled() and task.exception() is None and hasattr(generation := task.result(), "cancel"):
        generation.cancel()


class Job:
    """An answer on its way. Leaving the `with` block ends it, wherever it is.

    `text`, `thinking` and `calls` are what there is of it so far; `finish` is there when all of it is.
    """

    def __init__(self, generation: Generation, ask: Ask, desk: Desk) -> None:
        self.generation = generation
        self.ask = ask
        self.desk = desk
        self.deadline = asyncio.get_running_loop().time() + desk.limits.seconds
        self.text = self.thinking = ""
        self.calls: list[ToolCall] = []
        self.finish: Finish | None = None
        self.prompt_n = generation.stats.prompt_n
        self._clock = time.perf_counter()
        self._seconds = desk.metrics.first

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.generation.cancel()
        self.desk.metrics.ended(self.generation.stats)

    async def parts(self) -> AsyncIterator[Part]:
        """Round by round. Raises Refusal for what goes wrong.

        A stop string may cut what a round logged, so with log-probabilities a round is told with the next one. Where
        this reader fell behind and missed a round, the last part has what was missed.
        """
        waits, logged = self.ask.sampling.logprobs is not None, 0
        part, held = Part(), Part()
        try:
            async for event in self.generation:
                if isinstance(event, Finish):
                    self.finish = event
                    break
                if not isinstance(event, RoundDone):
                    self._add(part, event)
                    continue
                self._tick()
                if waits:
                    part, held = held, part
                    logged += len(part.logprobs)
                    missed = event.stats.predicted_n - len(event.round.tokens) - logged
                    held.logprobs = () if missed else event.round.logprobs
                if part:
                    yield part
                part = Part()
        except DSparkError as error:
            raise Refusal.of(error) from error
        assert self.finish
        part = held + part
        part.logprobs = self.logprobs[logged:]
        if part:
            yield part

    @property
    def logprobs(self) -> tuple[TokenLogprobs, ...]:
        """Of the tokens of a finished answer, its end left out."""
        found = self.finish.logprobs if self.finish else ()
        return found[:-1] if found and self.desk.runtime.vocab.is_end(found[-1].token) else found

    def _add(self, part: Part, event: Text | Thinking | ToolCall) -> None:
        if isinstance(event, Text):
            part.text += event.text
            self.text += event.text
        elif isinstance(event, Thinking):
            part.thinking += event.text
            self.thinking += event.text
        else:
            part.calls.append(event)
            self.calls.append(event)

    def _tick(self) -> None:
        now = time.perf_counter()
        self._seconds.observe(now - self._clock)
        self._clock, self._seconds = now, self.desk.metrics.between
