"""Anthropic's `messages` and `messages/count_tokens`. Source: https://docs.anthropic.com/en/api/messages."""

from __future__ import annotations

import json
import secrets
from dataclasses import replace
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Literal

from fastapi import APIRouter, Request, Response
from pydantic import Field

from dspark_local.chat import Message
from dspark_local.events import ToolCall
from dspark_local.server.accounts import cut
from dspark_local.server.answers import ANSWERS
from dspark_local.server.desk import Ask, Desk, Job, Part
from dspark_local.server.errors import MESSAGES, Refusal
from dspark_local.server.fields import TEXT_ONLY, Body, Count, Strict, Whole
from dspark_local.server.streaming import answer, event
from dspark_local.tools.toolset import AUTO, NONE, REQUIRED, Tool

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dspark_local.runtime import Runtime

_CHOICES = {"auto": AUTO, "any": REQUIRED, "none": NONE}


class Block(Strict):
    """A part of a turn. Text, thoughts, calls and their results are understood; all else is refused, unopened."""

    type: str
    text: str | None = None
    thinking: str | None = None
    id: str | None = None
    name: str | None = None
    input: dict[str, Any] | None = None
    tool_use_id: str | None = None
    content: str | list[Block] | None = None


class Turn(Strict):
    """A turn of the conversation."""

    role: Literal["user", "assistant"]
    content: str | list[Block]


class AnthropicTool(Strict):
    """A function that may be called."""

    name: str
    description: str | None = None
    input_schema: dict[str, Any]
    type: Literal["custom"] | None = None


class Choice(Strict):
    """Whether, and which, tools are called."""

    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class CountRequest(Body):
    """A conversation whose tokens are to be counted."""

    model: str
    messages: list[Turn] = Field(min_length=1)
    system: str | list[Block] | None = None
    tools: list[AnthropicTool] | None = None
    tool_choice: Choice | None = None

    def ask(self, runtime: Runtime) -> Ask:
        """As the desk takes it."""
        return Ask(sampling=runtime.preset, **self._conversation())

    def _conversation(self) -> dict[str, Any]:
        """A last turn of the assistant is how its answer begins."""
        messages = [Message("system", _text(self.system))] if self.system else []
        for turn in self.messages:
            messages += _turns(turn)
        begun = len(messages) > 1 and messages[-1].role == "assistant" and not messages[-1].tool_calls
        choice = self.tool_choice
        return {
            "messages": messages[:-1] if begun else messages,
            "begun": messages[-1].content if begun else "",
            "tools": tuple(Tool(t.name, t.description or "", t.input_schema) for t in self.tools or ()),
            "tool_choice": _CHOICES.get(choice.type, choice.name or "") if choice else AUTO,
            "parallel": not (choice and choice.disable_parallel_tool_use),
        }


class MessageRequest(CountRequest):
    """A conversation to be answered."""

    max_tokens: Count
    stop_sequences: list[str] | None = None
    stream: bool | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: Whole | None = None

    def ask(self, runtime: Runtime) -> Ask:
        """As the desk takes it."""
        drawn = {name: getattr(self, name) for name in ("temperature", "top_p", "top_k")}
        return Ask(
            sampling=replace(runtime.preset, **{name: value for name, value in drawn.items() if value is not None}),
            max_tokens=self.max_tokens,
            stop=tuple(self.stop_sequences or ()),
            **self._conversation(),
        )


def _turns(turn: Turn) -> Iterator[Message]:
    """A turn as messages: results of calls come before what the user says to them."""
    blocks = [Block(type="text", text=turn.content)] if isinstance(turn.content, str) else turn.content
    for block in blocks:
        if block.type == "tool_result":
            yield Message("tool", _text(block.content), tool_call_id=_given(block.tool_use_id))
    calls = tuple(
        ToolCall(_given(b.id), _given(b.name), json.dumps(b.input or {})) for b in blocks if b.type == "tool_use"
    )
    said = [b for b in blocks if b.type not in ("tool_use", "tool_result", "thinking", "redacted_thinking")]
    thinking = "".join(b.thinking or "" for b in blocks)
    if said or calls or thinking:
        yield Message(turn.role, _text(said), calls, thinking=thinking)


def _text(content: str | list[Block] | None) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    for block in content:
        if block.type != "text":
            raise Refusal(
                HTTPStatus.BAD_REQUEST,
                f"content of type {block.type!r} is not understood: {TEXT_ONLY}",
            )
    return "".join(_given(block.text) for block in content)


def _given(value: str | None) -> str:
    if value is None:
        raise Refusal(HTTPStatus.BAD_REQUEST, "a block of the content lacks a field that its type needs")
    return value


class MessageWriter:
    """A `message`, whole or as the events that build it up."""

    def __init__(self, job: Job, _body: MessageRequest) -> None:
        self._job = job
        self._id = f"msg_{secrets.token_hex(12)}"
        self._kind = ""  # of the block that is open
        self._index = -1

    def begin(self) -> Iterator[str]:
        """The message, still empty."""
        yield _event("message_start", message=self._message([], None))

    def part(self, part: Part) -> Iterator[str]:
        """Blocks that begin, grow and end."""
        if part.thinking:
            yield from self._opened({"type": "thinking", "thinking": "", "signature": ""})
            yield self._delta({"type": "thinking_delta", "thinking": part.thinking})
        if part.text:
            yield from self._opened({"type": "text", "text": ""})
            yield self._delta({"type": "text_delta", "text": part.text})
        for call in part.calls:
            yield from self._closed()
            yield from self._opened({"type": "tool_use", "id": call.id, "name": call.name, "input": {}})
            yield self._delta({"type": "input_json_delta", "partial_json": call.arguments})
            yield from self._closed()

    def end(self) -> Iterator[str]:
        """Why it ended, and what it took."""
        yield from self._closed()
        delta = {"stop_reason": self._reason(), "stop_sequence": self._stop}
        yield _event("message_delta", delta=delta, usage={"output_tokens": self._job.generation.stats.predicted_n})
        yield _event("message_stop")

    def failed(self, refusal: Refusal) -> Iterator[str]:
        """The error as an event."""
        yield event(refusal.body(MESSAGES), "error")

    def whole(self) -> dict[str, Any]:
        """The object."""
        job = self._job
        blocks: list[dict[str, Any]] = []
        if job.thinking:
            blocks.append({"type": "thinking", "thinking": job.thinking, "signature": ""})
        if job.text:
            blocks.append({"type": "text", "text": job.text})
        blocks += [
            {"type": "tool_use", "id": call.id, "name": call.name, "input": json.loads(call.arguments)}
            for call in job.calls
        ]
        return self._message(blocks, self._reason())

    def _message(self, content: list[dict[str, Any]], reason: str | None) -> dict[str, Any]:
        job = self._job
        return {
            "id": self._id,
            "type": "message",
            "role": "assistant",
            "model": job.desk.name,
            "content": content,
            "stop_reason": reason,
            "stop_sequence": self._stop,
            "usage": {"input_tokens": job.prompt_n, "output_tokens": job.generation.stats.predicted_n if reason else 0},
        }

    def _reason(self) -> str:
        if cut(self._job):
            return "max_tokens"
        if self._job.calls:
            return "tool_use"
        return "stop_sequence" if self._stop else "end_turn"

    @property
    def _stop(self) -> str | None:
        return self._job.finish.stop if self._job.finish else None

    def _opened(self, block: dict[str, Any]) -> Iterator[str]:
        if self._kind == block["type"]:
            return
        yield from self._closed()
        self._kind, self._index = block["type"], self._index + 1
        yield _event("content_block_start", index=self._index, content_block=block)

    def _closed(self) -> Iterator[str]:
        if self._kind:
            yield _event("content_block_stop", index=self._index)
        self._kind = ""

    def _delta(self, delta: dict[str, Any]) -> str:
        return _event("content_block_delta", index=self._index, delta=delta)


def _event(name: str, **data: Any) -> str:  # noqa: ANN401 - JSON
    return event({"type": name, **data}, name)


def routes(desk: Desk) -> APIRouter:
    """The routes, before this desk."""
    router = APIRouter()

    @router.post(MESSAGES, responses=ANSWERS)
    async def messages(body: MessageRequest, request: Request) -> Response:
        """Answer a conversation."""
        return await answer(desk, body, MessageWriter, request)

    @router.post(f"{MESSAGES}/count_tokens", responses={key: ANSWERS[key] for key in ("4XX", "5XX")})
    async def count_tokens(body: CountRequest) -> dict[str, int]:
        """Tokens of a conversation, as it would be answered."""
        desk.check(body.model)
        return {"input_tokens": await desk.count(body.ask(desk.runtime))}

    return router
