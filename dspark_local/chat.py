"""From messages to tokens, and from tokens back to text.

Templates run in Jinja's sandbox. What a user typed never becomes control tokens: `<|im_end|>` in it is text.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NoReturn, Self

import jinja2
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from dspark_local.errors import ModelFormatError, UsageError
from dspark_local.events import ToolCall

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from dspark_local.backend.base import Vocab

_TAIL = 16  # tokens at the end of a prompt that may spell a tag and white space
OPEN, CLOSE = "\ue000", "\ue001"  # private-use marks around what a user typed


@dataclass(frozen=True, slots=True)
class Message:
    """One turn; `role` is system, user, assistant or tool.

    An assistant's turn may have called tools, and have thought before; a tool's turn answers the call `tool_call_id`.
    """

    role: str
    content: str
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""
    thinking: str = ""

    @classmethod
    def of(cls, value: Message | Mapping[str, Any]) -> Message:
        """A message, or the mapping that OpenAI's API has for one. Raises UsageError."""
        if isinstance(value, Message):
            return value
        if not isinstance(value, Mapping):
            raise UsageError(f"a message is a Message, or a mapping with role and content, not {value!r:.40}")
        calls = tuple(_call(call) for call in value.get("tool_calls") or ())
        try:
            role, content = value["role"], value.get("content") or "" if calls else value["content"]
        except KeyError as missing:
            raise UsageError(f"a message needs role and content; {missing} is missing") from None
        texts = role, content, value.get("tool_call_id") or "", value.get("reasoning_content") or ""
        if not all(isinstance(text, str) for text in texts):
            raise UsageError("a message's role and content are text")
        return cls(role, content, calls, *texts[2:])


def _call(value: ToolCall | Mapping[str, Any]) -> ToolCall:
    if isinstance(value, ToolCall):
        return value
    try:
        found = value.get("id") or "", value["function"]["name"], value["function"]["arguments"]
    except (KeyError, TypeError, AttributeError):
        raise UsageError("a tool call needs a function with name and arguments") from None
    if not all(isinstance(text, str) for text in found):
        raise UsageError("a tool call's name is text, and its arguments are JSON text")
    return ToolCall(*found)


@lru_cache(maxsize=16)  # compiling takes tens of milliseconds, rendering none
def _compiled(source: str) -> jinja2.Template:
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
    environment.filters["tojson"] = lambda value, **options: json.dumps(value, ensure_ascii=False, **options)
    environment.globals["raise_exception"] = _refuse
    environment.globals["strftime_now"] = lambda form: datetime.now().astimezone().strftime(form)
    return environment.from_string(source)


@dataclass(frozen=True, slots=True)
class Template:
    """A chat template in Jinja, as model files carry it."""

    source: str
    bos: str = ""
    eos: str = ""

    @property
    def knows_tools(self) -> bool:
        """Whether it writes down the tools that it is given."""
        return bool(re.search(r"\btools\b", self.source))

    def render(
        self,
        messages: Sequence[Message],
        tools: Sequence[Mapping[str, Any]] = (),
        options: Mapping[str, Any] | None = None,
    ) -> str:
        """The conversation up to where the assistant's answer begins; `tools` are functions as OpenAI's API has them.

        `options` are variables of this template, as enable_thinking is of Qwen's.
        Raises UsageError when the template refuses the messages, ModelFormatError when it is broken.
        """
        names = {call.id: call.name for message in messages for call in message.tool_calls}
        given: dict[str, Any] = {"messages": [_turn(m, names) for m in messages], "tools": list(tools) or None}
        given |= {"add_generation_prompt": True, "bos_token": self.bos, "eos_token": self.eos}
        if taken := sorted(given.keys() & (options or {})):
            raise UsageError(f"chat templates are given {', '.join(taken)} by us; leave it out of their options")
        try:
            return _compiled(self.source).render({**given, **(options or {})})
        except (jinja2.TemplateError, TypeError) as error:
            raise ModelFormatError(f"the model's chat template fails: {error}") from error


def _turn(message: Message, names: Mapping[str, str]) -> dict[str, Any]:
    """A message as templates expect it: arguments as what they say, not as text."""
    turn: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.thinking:
        turn["reasoning_content"] = message.thinking
    if message.tool_calls:
        turn["tool_calls"] = [
            {"id": c.id, "type": "function", "function": {"name": c.name, "arguments": _said(c.arguments)}}
            for c in message.tool_calls
        ]
    if message.tool_call_id:
        turn |= {"tool_call_id": message.tool_call_id, "name": names.get(message.tool_call_id, "")}
    return turn


def _said(arguments: str) -> Any:  # noqa: ANN401 - whatever JSON says
    try:
        return json.loads(arguments)
    except (ValueError, RecursionError):
        return arguments


def _refuse(message: str) -> NoReturn:
    raise UsageError(f"the model's chat template refuses these messages: {message}")


def encode_chat(
    vocab: Vocab,
    messages: Sequence[Message | Mapping[str, Any]],
    tools: Sequence[Mapping[str, Any]] = (),
    options: Mapping[str, Any] | None = None,
) -> list[int]:
    """Tokens of a conversation up to where the assistant's answer begins; the rest as `Template.render` has it.

    Raises UsageError when there are no messages or the model has no chat template.
    """
    template = template_of(vocab)
    if not messages:
        raise UsageError("a chat needs at least one message")
    marks = _Marks(vocab)
    turns = [marks.message(Message.of(m)) for m in messages]
    rendered = template.render(turns, [marks.json(tool) for tool in tools], marks.json(dict(options or {})))
    if not marks.used:
        return vocab.encode(rendered, special=True)
    tokens: list[int] = []
    for piece, typed in _pieces(rendered):
        tokens += vocab.encode(piece, special=not typed)
    return tokens


def template_of(vocab: Vocab) -> Template:
    """The model's chat template. Raises UsageError if it has none."""
    if vocab.chat_template is None:
        raise UsageError("this model has no chat template; give it a plain prompt (`run --raw`)")
    return Template(vocab.chat_template, vocab.bos, vocab.eos)


@dataclass(slots=True)
class _Marks:
    """Puts marks around what names control tokens, wherever others wrote it: messages, tools, calls, their results."""

    vocab: Vocab
    used: bool = False

    def message(self, message: Message) -> Message:
        calls = [
            replace(call, name=self.text(call.name), arguments=json.dumps(self.json(_said(call.arguments))))
            for call in message.tool_calls
        ]
        content, thinking = self.text(message.content), self.text(message.thinking)
        return replace(message, content=content, thinking=thinking, tool_calls=tuple(calls))

    def json(self, value: Any) -> Any:  # noqa: ANN401 - whatever JSON says
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {self.text(key): self.json(inner) for key, inner in value.items()}
        return [self.json(inner) for inner in value] if isinstance(value, list) else value

    def text(self, text: str) -> str:
        if self.vocab.encode(text, special=True) == self.vocab.encode(text, special=False):
            return text
        self.used = True
        return OPEN + text.replace(OPEN, "").replace(CLOSE, "") + CLOSE


def _pieces(rendered: str) -> Iterator[tuple[str, bool]]:
    """Runs of the rendered text, and whether a user typed them."""
    for part in rendered.split(OPEN):
        typed, closed, rest = part.rpartition(CLOSE)
        if closed and typed:
            yield typed, True
        if rest:
            yield rest, False


@dataclass(slots=True)
class TextStream:
    """Tokens in, text out: characters only when whole, and nothing of a stop string.

    Text that may begin a stop string is held back until that is clear; `found` is the one that came. `names` are the
    control tokens that count as text, which is theirs.
    """

    vocab: Vocab
    stop: tuple[str, ...] = ()
    names: Mapping[int, bytes] = field(default_factory=dict)
    found: str | None = None
    _held: str = ""
    _decoder: codecs.IncrementalDecoder = field(default_factory=codecs.getincrementaldecoder("utf-8"))

    def __post_init__(self) -> None:
        self._decoder.errors = "replace"

    @property
    def stopped(self) -> bool:
        """Whether a stop string came."""
        return self.found is not None

    def push(self, token: int) -> str:
        """Text that this token makes certain. Once `stopped`, the stop string is complete and nothing follows."""
        self._held += self._decoder.decode(self.names.get(token) or self.vocab.piece(token))
        at, self.found = min(((i, s) for s in self.stop if (i := self._held.find(s)) >= 0), default=(0, None))
        if self.found is not None:
            text, self._held = self._held[:at], ""
            return text
        keep = max((overlap(self._held, s) for s in self.stop), default=0)
        text, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        return text

    def flush(self) -> str:
        """What was held back, when no more tokens come."""
        text = self._held + self._decoder.decode(b"", final=True)
        self._held = ""
        return "" if self.stopped else text


def overlap(text: str, stop: str) -> int:
    """Length of the longest proper prefix of `stop` that `text` ends with."""
    return next((n for n in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:n])), 0)


@dataclass(slots=True)
class Reasoning:
    """Splits a stream of text at the tags that models put around their thinking."""

    opening: str = "<think>"
    closing: str = "</think>"
    thinking: bool = False
    _held: str = ""

    @classmethod
    def behind(cls, vocab: Vocab, tokens: Sequence[int]) -> Self:
        """Behind a prompt: some templates open the thinking themselves."""
        end = b"".join(vocab.piece(token) for token in tokens[-_TAIL:]).decode("utf-8", "replace").rstrip()
        return cls(thinking=end.endswith(cls().opening))

    def push(self, text: str, *, final: bool = False) -> Iterator[tuple[str, bool]]:
        """(text, thinking) runs that are certain; a possible beginning of a tag waits for more."""
        self._held += text
        while True:
            tag = self.closing if self.thinking else self.opening
            before, found, after = self._held.partition(tag)
            if not found:
                break
            if before:
                yield before, self.thinking
            self.thinking, self._held = not self.thinking, after
        keep = 0 if final else overlap(self._held, tag)
        run, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        if run:
            yield run, self.thinking
