"""What OpenAI's requests have in common, and llama-server's additions to them: sampling, limits, tools."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from dspark_local.chat import Message
from dspark_local.server.errors import Refusal
from dspark_local.tools.toolset import Tool
from dspark_local.types import SamplingParams

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dspark_local.events import ToolCall

Whole = Annotated[int, Field(ge=-(2**31), lt=2**31)]
Count = Annotated[int, Field(ge=1, lt=2**31)]
TEXT_ONLY = "this server takes text, and opens no file and no URL"
Mode = Literal["auto", "none", "required"]


class Strict(BaseModel):
    """An object of a request: types as they are given; fields that are not known are passed over."""

    model_config = ConfigDict(strict=True)


class Body(Strict):
    """A request's body; text in it is whole characters, though JSON can spell halves."""

    @model_validator(mode="before")
    @classmethod
    def _whole(cls, value: Any) -> Any:  # noqa: ANN401 - whatever JSON says
        try:
            json.dumps(value if isinstance(value, dict) else {}, ensure_ascii=False).encode()
        except (UnicodeEncodeError, RecursionError):
            raise ValueError("text of half a character, or nested too deeply") from None
        return value


class Sampling(Body):
    """How to draw. What is left out is the model's own preset."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: Whole | None = None
    min_p: float | None = None
    typical_p: float | None = None
    repeat_penalty: float | None = None
    repeat_last_n: Whole | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    dry_multiplier: float | None = None
    dry_base: float | None = None
    dry_allowed_length: Whole | None = None
    dry_penalty_last_n: Whole | None = None
    dry_sequence_breakers: list[str] | None = None
    dynatemp_range: float | None = None
    dynatemp_exponent: float | None = None
    logit_bias: dict[Annotated[str, Field(pattern=r"^[0-9]{1,9}$")], float] | None = None
    grammar: str | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    stream: bool | None = None
    n: int | None = None

    def drawn(self, preset: SamplingParams, **more: Any) -> SamplingParams:  # noqa: ANN401 - fields of SamplingParams
        """The preset, with what the request says over it. Raises UsageError, and Refusal for more than one answer."""
        if self.n not in (None, 1):
            raise Refusal(HTTPStatus.BAD_REQUEST, "this server gives one answer to a request: n must be 1", param="n")
        names = {field.name for field in fields(SamplingParams)} & set(type(self).model_fields)
        given = {name: getattr(self, name) for name in names} | more
        if self.logit_bias is not None:
            given["logit_bias"] = tuple((int(token), bias) for token, bias in self.logit_bias.items())
        if self.dry_sequence_breakers is not None:
            given["dry_sequence_breakers"] = tuple(self.dry_sequence_breakers)
        return replace(preset, **{name: value for name, value in given.items() if value is not None})

    @property
    def stops(self) -> tuple[str, ...]:
        """The stop strings."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())


class StreamOptions(Strict):
    """What a stream tells beside the answer."""

    include_usage: bool | None = None


class Streamed(Sampling):
    """A request whose stream may end with the usage."""

    stream_options: StreamOptions | None = None

    @property
    def wants_usage(self) -> bool:
        """Whether it does."""
        return bool(self.stream_options and self.stream_options.include_usage)


class Function(Strict):
    """A function that may be called."""

    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None

    @property
    def tool(self) -> Tool:
        """As the library has it."""
        return Tool(self.name, self.description or "", self.parameters or {})


class JsonSchema(Strict):
    """A schema that the answer has to fit; its name is for the client."""

    name: str | None = None
    schema_: dict[str, Any] | None = Field(None, alias="schema")


class Format(Strict):
    """What the answer has to be: text, JSON, or JSON of a schema, which `responses` spells one level higher."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None
    schema_: dict[str, Any] | None = Field(None, alias="schema")

    @property
    def schema_text(self) -> str | None:
        """The JSON schema as text."""
        if self.type == "text":
            return None
        if self.type == "json_object":
            return json.dumps(self.schema_ or {"type": "object"})
        given = self.json_schema.schema_ if self.json_schema else self.schema_
        if given is None:
            raise Refusal(
                HTTPStatus.BAD_REQUEST, "the response format json_schema needs a schema", param="response_format"
            )
        return json.dumps(given)


class Piece(Strict):
    """A part of a message's content. Text is understood; images, sounds and files are refused, unopened."""

    type: str
    text: str | None = None


Content = str | list[Piece]


def text_of(content: Content | None, kinds: Iterable[str] = ("text", "input_text", "output_text", "refusal")) -> str:
    """The text of a content. Raises Refusal for what is none."""
    if content is None or isinstance(content, str):
        return content or ""
    for piece in content:
        if piece.type not in kinds or piece.text is None:
            raise Refusal(
                HTTPStatus.BAD_REQUEST,
                f"content of type {piece.type!r} is not understood: {TEXT_ONLY}",
                param="messages",
            )
    return "".join(piece.text or "" for piece in content)


def with_calls(messages: list[Message], calls: Iterable[ToolCall]) -> list[Message]:
    """The conversation, its last turn having called these as well."""
    if messages and messages[-1].role == "assistant":
        last = messages[-1]
        return [*messages[:-1], replace(last, tool_calls=(*last.tool_calls, *calls))]
    return [*messages, Message("assistant", "", tuple(calls))]
