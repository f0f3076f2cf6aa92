"""What apps embed: a loaded pair that any thread or event loop may ask."""

from __future__ import annotations

import asyncio
import operator
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from dspark_local import saving
from dspark_local.chat import Message, Reasoning, TextStream
from dspark_local.errors import UsageError
from dspark_local.generation import Generation
from dspark_local.job import Job, Limits
from dspark_local.prepare import prepare
from dspark_local.tools.toolset import AUTO, Tool, Toolset
from dspark_local.types import SamplingParams
from dspark_local.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from collections.abc import Sequence as Many

    from dspark_local.backend.base import Vocab
    from dspark_local.engine import Engine
    from dspark_local.scheduling.policy import Policy
    from dspark_local.tools.reader import CallReader


@dataclass(frozen=True, slots=True, kw_only=True)
class Info:
    """What a runtime runs: for people to see."""

    model: str
    drafter: str
    n_ctx: int
    n_slots: int
    block_size: int


class Runtime:
    """A loaded pair. Thread-safe; also a context manager, sync and async. `dspark_local.load` makes one.

    `preset` is how answers are drawn where a request does not say; the model's own, unless replaced.
    A runtime that nobody holds any more closes, and so does one that runs when the program ends.
    """

    def __init__(
        self,
        engine: Engine,
        vocab: Vocab,
        *,
        model: str = "",
        identity: str = "",
        preset: SamplingParams | None = None,
        max_waiting: int | None = None,
        plain: Callable[[], Runtime] | None = None,
        at_rest: Callable[[], None] | None = None,
    ) -> None:
        """Own an engine. `plain` makes what `plain()` returns; `at_rest` is called after a second with nothing to do.

        `identity` of the models and their contexts tells whose saved conversations fit. Beyond the slots, `max_waiting`
        requests may wait, or any number.
        """
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
        self._identity = identity
        self._plain = plain
        self._worker = Worker(engine, max_waiting=max_waiting, at_rest=at_rest or (lambda: None))
        weakref.finalize(self, self._worker.stop)  # without waiting: the garbage collector may interrupt anything

    @property
    def running(self) -> int:
        """How many requests have a slot."""
        return self._worker.running

    @property
    def waiting(self) -> int:
        """How many requests wait for one."""
        return self._worker.waiting

    @property
    def closed(self) -> bool:
        """Whether it takes no more requests."""
        return self._worker.closed

    def chat(
        self,
        messages: Many[Message | Mapping[str, Any]],
        sampling: SamplingParams | None = None,
        *,
        max_tokens: int | None = None,
        stop: str | Many[str] = (),
        timeout: float | None = None,
        draft: bool = True,
        tools: Many[Tool | Mapping[str, Any]] = (),
        tool_choice: str = AUTO,
        parallel_tool_calls: bool = True,
        chat_template_kwargs: Mapping[str, Any] | None = None,
        begun: str = "",
    ) -> Generation:
        """Answer a conversation, drawn by `sampling` or by the preset.

        Before the model ends, `max_tokens`, a string of `stop`, or `timeout` seconds from now do. `draft` False
        decodes plainly. The model may call `tools`; `tool_choice` is auto, none, required (calls of any of them,
        one or more) or a tool's name (one call of it); without `parallel_tool_calls` the first call ends the answer.
        `chat_template_kwargs` are variables of the model's chat template, as enable_thinking is of Qwen's.
        `begun` is how the answer begins, its thinking in tags: only what follows is generated and told.
        Raises UsageError, ContextError, QueueFullError, ClosedError or ForkError here, others while iterating.
        """
        limits = Limits.of(max_tokens, stop, timeout, draft=draft)
        toolset = Toolset.of(self.vocab, tools, tool_choice, parallel=parallel_tool_calls)
        return self._submit(self._chat_job(messages, sampling, limits, toolset, chat_template_kwargs, begun))

    async def achat(
        self,
        messages: Many[Message | Mapping[str, Any]],
        sampling: SamplingParams | None = None,
        *,
        max_tokens: int | None = None,
        stop: str | Many[str] = (),
        timeout: float | None = None,  # noqa: ASYNC109 - the answer's, not this call's
        draft: bool = True,
        tools: Many[Tool | Mapping[str, Any]] = (),
        tool_choice: str = AUTO,
        parallel_tool_calls: bool = True,
        chat_template_kwargs: Mapping[str, Any] | None = None,
        begun: str = "",
    ) -> Generation:
        """`chat` that leaves the event loop free while it encodes the conversation and reads its grammar."""
        limits = Limits.of(max_tokens, stop, timeout, draft=draft)
        toolset = Toolset.of(self.vocab, tools, tool_choice, parallel=parallel_tool_calls)
        job = await asyncio.to_thread(
            self._chat_job, messages, sampling, limits, toolset, chat_template_kwargs, begun
        )
        return self._submit(job)

    def generate(
        self,
        prompt: str | Many[int],
        sampling: SamplingParams | None = None,
        *,
        max_tokens: int | None = None,
        stop: str | Many[str] = (),
        timeout: float | None = None,
        draft: bool = True,
    ) -> Generation:
        """Continue a text, or tokens, as they are. Options and errors are those of `chat`."""
        limits = Limits.of(max_tokens, stop, timeout, draft=draft)
        return self._submit(self._text_job(prompt, sampling, limits))

    async def agenerate(
        self,
        prompt: str | Many[int],
        sampling: SamplingParams | None = None,
        *,
        max_tokens: int | None = None,
        stop: str | Many[str] = (),
        timeout: float | None = None,  # noqa: ASYNC109 - the answer's, not this call's
        draft: bool = True,
    ) -> Generation:
        """`generate` that leaves the event loop free while it encodes the text and reads its grammar."""
        limits = Limits.of(max_tokens, stop, timeout, draft=draft)
        return self._submit(await asyncio.to_thread(self._text_job, prompt, sampling, limits))

    def plain(self) -> Runtime:
        """A second runtime over the same weights that decodes plainly, in a context of its own: to compare with.

        Close it too. Raises OutOfMemoryError, ClosedError, and UsageError where there is none.
        """
        if self._plain is None:
            raise UsageError("this runtime has no plain one beside it")
        with self._worker.using():
            return self._plain()

    def save(
        self,
        path: str | Path,
        messages: Many[Message | Mapping[str, Any]],
        *,
        tools: Many[Tool | Mapping[str, Any]] = (),
    ) -> None:
        """Keep in a file what the models made of a conversation, so that it goes on at once after `restore`.

        The file belongs to these model files on this machine. Raises UsageError where nothing is left of the
        conversation, StorageError where the file cannot be written, BackendError for a model whose cache cannot be
        taken out, ForkError and ClosedError.
        """
        with self._worker.using():
            tokens = Toolset.of(self.vocab, tools, AUTO).encode(messages)
        snapshot = self._worker.call(lambda engine: engine.snapshot(tokens))
        if snapshot is None:
            raise UsageError("nothing is held of this conversation; continue it, then save it")
        saving.write(Path(path), snapshot, self._identity)

    def restore(self, path: str | Path) -> None:
        """Take up a conversation that was saved: what begins with it starts at once.

        Raises StorageError for a file that is missing, damaged or of other models, ForkError and ClosedError.
        """
        snapshot = saving.read(Path(path), self._identity)
        self._worker.call(lambda engine: engine.adopt(snapshot))

    @property
    def policy(self) -> Policy:
        """How many tokens a round drafts and verifies. Set another one while nothing runs."""
        return self._engine.policy

    @policy.setter
    def policy(self, policy: Policy) -> None:
        self._engine.policy = policy

    def close(self) -> None:
        """End what runs with ClosedError, and free the models; twice is fine.

        From any thread. It waits for the round that runs, but not where that would wait for itself: inside a callback
        of the runtime's own thread, and in a signal handler that interrupted a request on its way in.
        """
        self._worker.close()

    async def aclose(self) -> None:
        """`close` that leaves the event loop free meanwhile."""
        await asyncio.to_thread(self.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def _chat_job(
        self,
        messages: Many[Message | Mapping[str, Any]],
        sampling: SamplingParams | None,
        limits: Limits,
        toolset: Toolset,
        options: Mapping[str, Any] | None,
        begun: str,
    ) -> Job:
        with self._worker.using():
            self._worker.check_room()  # before the work, and again behind it
            tokens = toolset.encode(messages, options)
            drawn = toolset.constrained(sampling or self.preset)
            stream = TextStream(self.vocab, limits.stop, toolset.names())
            reasoning = Reasoning.behind(self.vocab, tokens)
            if begun:
                begun = begun.removeprefix(reasoning.opening) if reasoning.thinking else begun
                tokens += self.vocab.encode(begun, special=False)
                list(reasoning.push(begun))  # nothing of it is told again
            return self._job(tokens, drawn, stream, limits, reasoning=reasoning, calls=toolset.reader())

    def _text_job(self, prompt: str | Many[int], sampling: SamplingParams | None, limits: Limits) -> Job:
        with self._worker.using():
            self._worker.check_room()
            tokens = self.vocab.encode(prompt, special=True) if isinstance(prompt, str) else _numbers(prompt)
            return self._job(tokens, sampling or self.preset, TextStream(self.vocab, limits.stop), limits)

    def _job(
        self,
        tokens: list[int],
        sampling: SamplingParams,
        stream: TextStream,
        limits: Limits,
        *,
        reasoning: Reasoning | None = None,
        calls: CallReader | None = None,
    ) -> Job:
        self._engine.check(tokens)
        room = min(limits.max_tokens or self.info.n_ctx, self.info.n_ctx - len(tokens))
        return Job(tokens, prepare(sampling, self.vocab, room), stream, limits, reasoning, calls)

    def _submit(self, job: Job) -> Generation:
        generation = Generation(job, self._worker, self)  # first, so that Ctrl-C here cancels it
        self._worker.submit(job)
        return generation


def _numbers(prompt: Many[int]) -> list[int]:
    """Tokens that a caller counted: what is no whole number would stop the engine, not this request."""
    try:
        return [operator.index(token) for token in prompt]
    except TypeError:
        raise UsageError("a prompt is text, or tokens by their numbers") from None
