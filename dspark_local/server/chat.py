"""OpenAI's `chat/completions`. Source: https://platform.openai.com/docs/api-reference/chat."""

from __future__ import annotations

import secrets
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Literal

from fastapi import APIRouter, Request, Response
from pydantic import Field

from dspark_local.chat import Message
from dspark_local.events import ToolCall
from dspark_local.server.accounts import finish_reason, logprobs, timings, usage
from dspark_local.server.answers import ANSWERS
from dspark_local.server.desk import Ask, Desk, Job, Part
from dspark_local.server.errors import Refusal
from dspark_local.server.fields import Content, Count, Format, Function, Mode, Streamed, Strict, text_of
from dspark_local.server.streaming import answer, event
from dspark_local.tools.toolset import AUTO

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dspark_local.runtime import Runtime

MOST_LOGPROBS = 20


class Called(Strict):
    """The function of a call; its arguments are JSON text."""

    name: str
    arguments: str


class Call(Strict):
    """A call that the assistant made."""

    id: str
    type: Literal["function"] = "function"
    function: Called


class ChatMessage(Strict):
    """A turn of the conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Content | None = None
    reasoning_content: str | None = None
    tool_calls: list[Call] | None = None
    tool_call_id: str | None = None

    def message(self) -> Message:
        """As the library has it."""
        if self.content is None and not self.tool_calls:
            raise Refusal(HTTPStatus.BAD_REQUEST, f"a message of role {self.role} needs content", param="messages")
        role = "system" if self.role == "developer" else self.role
        calls = tuple(ToolCall(c.id, c.function.name, c.function.arguments) for c in self.tool_calls or ())
        return Message(role, text_of(self.content), calls, self.tool_call_id or "", self.reasoning_content or "")


class ChatTool(Strict):
    """A tool; functions are the only kind."""

    type: Literal["function"]
    function: Function


class Named(Strict):
    """A name."""

    name: str


class Choice(Strict):
    """One function, which has to be called."""

    type: Literal["function"] = "function"
    function: Named


class ChatRequest(Streamed):
    """A conversation to be answered."""

    model: str
    messages: list[ChatMessage] = Field(min_length=1)
    max_tokens: Count | None = None
    max_completion_tokens: Count | None = None
    tools: list[ChatTool] | None = None
    tool_choice: Mode | Choice | None = None
    functions: list[Any] | None = None
    parallel_tool_calls: bool | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    response_format: Format | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=MOST_LOGPROBS)

    def ask(self, runtime: Runtime) -> Ask:
        """As the desk takes it."""
        if self.functions:
            raise Refusal(HTTPStatus.BAD_REQUEST, "functions are an older form of tools: use these", param="functions")
        choice = self.tool_choice.function.name if isinstance(self.tool_choice, Choice) else self.tool_choice
        return Ask(
            messages=[message.message() for message in self.messages],
            sampling=self.drawn(
                runtime.preset,
                json_schema=self.response_format.schema_text if self.response_format else None,
                logprobs=(self.top_logprobs or 0) if self.logprobs else None,
            ),
            max_tokens=self.max_completion_tokens or self.max_tokens,
            stop=self.stops,
            tools=tuple(tool.function.tool for tool in self.tools or ()),
            tool_choice=choice or AUTO,
            parallel=self.parallel_tool_calls is not False,
            chat_template_kwargs=self.chat_template_kwargs,
        )


class ChatWriter:
    """A `chat.completion`, whole or in chunks."""

    def __init__(self, job: Job, body: ChatRequest) -> None:
        self._job = job
        self._usage = body.wants_usage
        self._head = {"id": f"chatcmpl-{secrets.token_hex(12)}", "created": int(time.time()), "model": job.desk.name}
        self._calls = 0

    def begin(self) -> Iterator[str]:
        """A chunk with the role."""
        yield self._chunk({"role": "assistant", "content": ""})

    def part(self, part: Part) -> Iterator[str]:
        """A chunk with all that a round added."""
        delta: dict[str, Any] = {}
        if part.thinking:
            delta["reasoning_content"] = part.thinking
        if part.text:
            delta["content"] = part.text
        if part.calls:
            first = self._calls
            delta["tool_calls"] = [{"index": first + i, **_call(call)} for i, call in enumerate(part.calls)]
            self._calls += len(part.calls)
        yield self._chunk(delta, logprobs=self._logprobs(part.logprobs))

    def end(self) -> Iterator[str]:
        """The reason; then, if wanted, the usage. The last of the two has the timings."""
        last = {"timings": timings(self._job.generation.stats)}
        if self._usage:
            yield self._chunk({}, reason=finish_reason(self._job))
            yield event(self._object("chat.completion.chunk", choices=[], usage=usage(self._job), **last))
        else:
            yield self._chunk({}, reason=finish_reason(self._job), **last)
        yield "data: [DONE]\n\n"

    def failed(self, refusal: Refusal) -> Iterator[str]:
        """The error as an event."""
        yield event(refusal.body(""))

    def whole(self) -> dict[str, Any]:
        """The object."""
        job = self._job
        message: dict[str, Any] = {"role": "assistant", "content": job.text or (None if job.calls else "")}
        if job.thinking:
            message["reasoning_content"] = job.thinking
        if job.calls:
            message["tool_calls"] = [_call(call) for call in job.calls]
        logged = self._logprobs(job.logprobs)
        choice = {"index": 0, "message": message, "logprobs": logged, "finish_reason": finish_reason(job)}
        stats = job.generation.stats
        return self._object("chat.completion", choices=[choice], usage=usage(job), timings=timings(stats))

    def _logprobs(self, entries: Any) -> dict[str, Any] | None:  # noqa: ANN401 - TokenLogprobs of a part or a job
        if self._job.ask.sampling.logprobs is None:
            return None
        return {"content": logprobs(entries, self._job.desk.runtime.vocab)}

    def _chunk(self, delta: dict[str, Any], *, logprobs: Any = None, reason: str | None = None, **more: Any) -> str:  # noqa: ANN401 - JSON
        choice = {"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": reason}
        return event(self._object("chat.completion.chunk", choices=[choice], **more))

    def _object(self, kind: str, **more: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
        return {**self._head, "object": kind, **more}


def _call(call: ToolCall) -> dict[str, Any]:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def routes(desk: Desk) -> APIRouter:
    """The route, before this desk."""
    router = APIRouter()

    @router.post("/v1/chat/completions", responses=ANSWERS)
    async def chat_completions(body: ChatRequest, request: Request) -> Response:
        """Answer a conversation."""
        return await answer(desk, body, ChatWriter, request)

    return router
