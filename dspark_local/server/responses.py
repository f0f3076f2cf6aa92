"""OpenAI's `responses`, without a memory: each request brings its whole conversation.

Source: https://platform.openai.com/docs/api-reference/responses.
"""

from __future__ import annotations

import secrets
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Literal

from fastapi import APIRouter, Request, Response
from pydantic import Field

from dspark_local.chat import Message
from dspark_local.events import ToolCall
from dspark_local.server.accounts import cut, logprobs
from dspark_local.server.answers import ANSWERS
from dspark_local.server.desk import Ask, Desk, Job, Part
from dspark_local.server.errors import Refusal
from dspark_local.server.fields import Content, Count, Format, Function, Mode, Sampling, Strict, text_of, with_calls
from dspark_local.server.streaming import answer, event
from dspark_local.tools.toolset import AUTO

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dspark_local.runtime import Runtime

_LOGPROBS = "message.output_text.logprobs"


class Item(Strict):
    """A turn, a call, or what a call gave; thoughts of earlier turns are passed over."""

    type: Literal["message", "function_call", "function_call_output", "reasoning"] = "message"
    role: Literal["system", "developer", "user", "assistant"] | None = None
    content: Content | None = None
    call_id: str | None = None
    name: str | None = None
    arguments: str | None = None
    output: Content | None = None


class ResponseTool(Function):
    """A tool; functions are the only kind."""

    type: Literal["function"]


class Choice(Strict):
    """One function, which has to be called."""

    type: Literal["function"]
    name: str


class TextOptions(Strict):
    """What the text has to be."""

    format: Format | None = None


class ResponseRequest(Sampling):
    """A conversation to be answered."""

    model: str
    input: str | list[Item]
    instructions: str | None = None
    max_output_tokens: Count | None = None
    tools: list[ResponseTool] | None = None
    tool_choice: Mode | Choice | None = None
    parallel_tool_calls: bool | None = None
    text: TextOptions | None = None
    include: list[str] | None = None
    top_logprobs: int | None = Field(None, ge=0, le=20)
    previous_response_id: str | None = None
    background: bool | None = None

    def ask(self, runtime: Runtime) -> Ask:
        """As the desk takes it."""
        for name in ("previous_response_id", "background"):
            if getattr(self, name):
                raise Refusal(
                    HTTPStatus.BAD_REQUEST, f"this server keeps no responses: {name} is not supported", param=name
                )
        choice = self.tool_choice.name if isinstance(self.tool_choice, Choice) else self.tool_choice
        form = self.text.format if self.text else None
        wanted = _LOGPROBS in (self.include or ())
        return Ask(
            messages=self._messages(),
            sampling=self.drawn(
                runtime.preset,
                json_schema=form.schema_text if form else None,
                logprobs=(self.top_logprobs or 0) if wanted else None,
            ),
            max_tokens=self.max_output_tokens,
            stop=self.stops,
            tools=tuple(tool.tool for tool in self.tools or ()),
            tool_choice=choice or AUTO,
            parallel=self.parallel_tool_calls is not False,
        )

    def _messages(self) -> list[Message]:
        messages = [Message("system", self.instructions)] if self.instructions else []
        for item in [Item(role="user", content=self.input)] if isinstance(self.input, str) else self.input:
            if item.type == "function_call":
                call = ToolCall(_given(item.call_id), _given(item.name), _given(item.arguments))
                messages = with_calls(messages, [call])
            elif item.type == "function_call_output":
                messages.append(Message("tool", text_of(item.output), tool_call_id=_given(item.call_id)))
            elif item.type == "message":
                role = "system" if item.role == "developer" else _given(item.role)
                messages.append(Message(role, text_of(item.content)))
        return messages


def _given(value: str | None) -> str:
    if value is None:
        raise Refusal(HTTPStatus.BAD_REQUEST, "an item of the input lacks a field that its type needs", param="input")
    return value


class ResponseWriter:
    """A `response`, whole or as the events that build it up."""

    def __init__(self, job: Job, body: ResponseRequest) -> None:
        self._job = job
        self._body = body
        self._id = f"resp_{secrets.token_hex(12)}"
        self._created = int(time.time())
        self._items: list[dict[str, Any]] = []  # the output so far, its last item perhaps still growing
        self._number = 0

    def begin(self) -> Iterator[str]:
        """Created, in progress."""
        for name in ("response.created", "response.in_progress"):
            yield self._event(name, response=self._response("in_progress"))

    def part(self, part: Part) -> Iterator[str]:
        """Items that begin, grow and end."""
        if part.thinking:
            yield from self._opened("reasoning")
            yield self._delta("response.reasoning_text.delta", delta=part.thinking)
            self._items[-1]["content"][0]["text"] += part.thinking
        if part.text or part.logprobs:
            yield from self._opened("message")
            logged = logprobs(part.logprobs, self._job.desk.runtime.vocab)
            yield self._delta("response.output_text.delta", delta=part.text, logprobs=logged)
            content = self._items[-1]["content"][0]
            content["text"] += part.text
            content["logprobs"] += logged
        for call in part.calls:
            yield from self._closed()
            yield from self._called(call)

    def end(self) -> Iterator[str]:
        """The last item is done, and so is the response."""
        yield from self._closed()
        status = self._status()
        yield self._event(f"response.{status}", response=self._response(status))

    def failed(self, refusal: Refusal) -> Iterator[str]:
        """The response failed."""
        error = {"code": "server_error", "message": str(refusal)}
        yield self._event("response.failed", response={**self._response("failed"), "error": error})

    def whole(self) -> dict[str, Any]:
        """The object, built by the same steps."""
        job = self._job
        said = Part(job.text, job.thinking, job.calls, job.logprobs)
        for _ in (*self.begin(), *self.part(said), *self._closed()):
            pass
        return self._response(self._status())

    def _status(self) -> str:
        return "incomplete" if cut(self._job) else "completed"

    def _opened(self, kind: str) -> Iterator[str]:
        """An item of this kind is the last, and open."""
        if self._items and self._items[-1]["type"] == kind and self._items[-1]["status"] == "in_progress":
            return
        yield from self._closed()
        identity = {"id": f"{kind[:3]}_{secrets.token_hex(12)}", "type": kind, "status": "in_progress"}
        if kind == "reasoning":
            item = {**identity, "summary": []}
            content: dict[str, Any] = {"type": "reasoning_text", "text": ""}
        else:
            item = {**identity, "role": "assistant"}
            content = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
        self._items.append({**item, "content": [content]})
        yield self._event("response.output_item.added", output_index=self._at, item={**item, "content": []})
        yield self._delta("response.content_part.added", part=dict(content))

    def _closed(self) -> Iterator[str]:
        """The last item, if one is open, is done."""
        if not self._items or self._items[-1]["status"] != "in_progress":
            return
        item = self._items[-1]
        item["status"] = "completed"
        (content,) = item["content"]
        if item["type"] == "message":
            yield self._delta("response.output_text.done", text=content["text"], logprobs=content["logprobs"])
        else:
            yield self._delta("response.reasoning_text.done", text=content["text"])
        yield self._delta("response.content_part.done", part=content)
        yield self._event("response.output_item.done", output_index=self._at, item=item)

    def _called(self, call: ToolCall) -> Iterator[str]:
        item = {"id": f"fc_{secrets.token_hex(12)}", "type": "function_call", "call_id": call.id, "name": call.name}
        done = {**item, "status": "completed", "arguments": call.arguments}
        self._items.append(done)
        place = {"output_index": self._at, "item_id": item["id"]}
        added = {**item, "status": "in_progress", "arguments": ""}
        yield self._event("response.output_item.added", output_index=self._at, item=added)
        yield self._event("response.function_call_arguments.delta", **place, delta=call.arguments)
        yield self._event("response.function_call_arguments.done", **place, name=call.name, arguments=call.arguments)
        yield self._event("response.output_item.done", output_index=self._at, item=done)

    @property
    def _at(self) -> int:
        return len(self._items) - 1

    def _delta(self, name: str, /, **data: Any) -> str:  # noqa: ANN401 - JSON
        return self._event(name, item_id=self._items[-1]["id"], output_index=self._at, content_index=0, **data)

    def _event(self, name: str, /, **data: Any) -> str:  # noqa: ANN401 - JSON
        self._number += 1
        return event({"type": name, "sequence_number": self._number - 1, **data}, name)

    def _response(self, status: str) -> dict[str, Any]:
        job, body, sampling = self._job, self._body, self._job.ask.sampling
        reason = {"reason": "max_output_tokens"} if status == "incomplete" else None
        tools = [tool.model_dump(exclude_none=True) for tool in body.tools or ()]
        choice = body.tool_choice.model_dump() if isinstance(body.tool_choice, Choice) else body.tool_choice or AUTO
        form = body.text.format if body.text else None
        return {
            "id": self._id,
            "object": "response",
            "created_at": self._created,
            "status": status,
            "error": None,
            "incomplete_details": reason,
            "instructions": body.instructions,
            "max_output_tokens": body.max_output_tokens,
            "metadata": {},
            "model": job.desk.name,
            "output": [dict(item) for item in self._items],
            "parallel_tool_calls": job.ask.parallel,
            "previous_response_id": None,
            "store": False,
            "temperature": sampling.temperature,
            "text": {"format": form.model_dump(by_alias=True, exclude_none=True) if form else {"type": "text"}},
            "tool_choice": choice,
            "tools": tools,
            "top_p": sampling.top_p,
            "truncation": "disabled",
            "usage": None if status == "in_progress" else _usage(job),
        }


def _usage(job: Job) -> dict[str, Any]:
    stats = job.generation.stats
    said = stats.predicted_n
    return {
        "input_tokens": job.prompt_n,
        "input_tokens_details": {"cached_tokens": stats.cached_n},
        "output_tokens": said,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": job.prompt_n + said,
    }


def routes(desk: Desk) -> APIRouter:
    """The route, before this desk."""
    router = APIRouter()

    @router.post("/v1/responses", responses=ANSWERS)
    async def responses(body: ResponseRequest, request: Request) -> Response:
        """Answer a conversation."""
        return await answer(desk, body, ResponseWriter, request)

    return router
