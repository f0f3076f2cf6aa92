"""From messages to tokens, and from tokens back to text.

Templates run in Jinja's sandbox. What a user typed never becomes control tokens: `<|im_end|>` in it is text.
"""

from __future__ import annotations

import codecs
import json
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, NoReturn

import jinja2
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from dspark_local.errors import ModelFormatError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from dspark_local.backend.base import Vocab

OPEN, CLOSE = "\ue000", "\ue001"  # private-use marks around what a user typed


@dataclass(frozen=True, slots=True)
class Message:
    """One turn; `role` is system, user or assistant."""

    role: str
    content: str

    @classmethod
    def of(cls, value: Message | Mapping[str, str]) -> Message:
        """A message, or the mapping that other tools use for one. Raises UsageError."""
        if isinstance(value, Message):
            return value
        try:
            return cls(value["role"], value["content"])
        except KeyError as missing:
            raise UsageError(f"a message needs role and content; {missing} is missing") from None


@dataclass(frozen=True)
class Template:
    """A chat template in Jinja, as model files carry it."""

    source: str
    bos: str = ""
    eos: str = ""

    @cached_property
    def _compiled(self) -> jinja2.Template:
        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
        environment.filters["tojson"] = lambda value, **options: json.dumps(value, ensure_ascii=False, **options)
        environment.globals["raise_exception"] = _refuse
        environment.globals["strftime_now"] = lambda form: datetime.now().astimezone().strftime(form)
        return environment.from_string(self.source)

    def render(self, messages: Sequence[Message]) -> str:
        """The conversation up to where the assistant's answer begins.

        Raises UsageError when the template refuses the messages, ModelFormatError when it is broken.
        """
        turns: list[dict[str, Any]] = [{"role": m.role, "content": m.content} for m in messages]
        try:
            return self._compiled.render(
                messages=turns, add_generation_prompt=True, bos_token=self.bos, eos_token=self.eos
            )
        except jinja2.TemplateError as error:
            raise ModelFormatError(f"the model's chat template fails: {error}") from error


def _refuse(message: str) -> NoReturn:
    raise UsageError(f"the model's chat template refuses these messages: {message}")


def encode_chat(vocab: Vocab, messages: Sequence[Message | Mapping[str, str]]) -> list[int]:
    """Tokens of a conversation up to where the assistant's answer begins.

    Raises UsageError when there are no messages or the model has no chat template.
    """
    if not messages:
        raise UsageError("a chat needs at least one message")
    if vocab.chat_template is None:
        raise UsageError("this model has no chat template; give it a plain prompt (`run --raw`)")
    turns = [Message.of(m) for m in messages]
    template = Template(vocab.chat_template, vocab.bos, vocab.eos)
    if not any(_names_control_tokens(vocab, turn.content) for turn in turns):
        return vocab.encode(template.render(turns), special=True)
    marked = [Message(t.role, OPEN + t.content.replace(OPEN, "").replace(CLOSE, "") + CLOSE) for t in turns]
    tokens: list[int] = []
    for piece, typed in _pieces(template.render(marked)):
        tokens += vocab.encode(piece, special=not typed)
    return tokens


def _names_control_tokens(vocab: Vocab, text: str) -> bool:
    return vocab.encode(text, special=True) != vocab.encode(text, special=False)


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

    Text that may begin a stop string is held back until that is clear.
    """

    vocab: Vocab
    stop: tuple[str, ...] = ()
    stopped: bool = False
    _held: str = ""
    _decoder: codecs.IncrementalDecoder = field(default_factory=codecs.getincrementaldecoder("utf-8"))

    def __post_init__(self) -> None:
        self._decoder.errors = "replace"

    def push(self, token: int) -> str:
        """Text that this token makes certain. Once `stopped`, the stop string is complete and nothing follows."""
        self._held += self._decoder.decode(self.vocab.piece(token))
        at = min((i for s in self.stop if (i := self._held.find(s)) >= 0), default=None)
        if at is not None:
            self.stopped = True
            text, self._held = self._held[:at], ""
            return text
        keep = max((_overlap(self._held, s) for s in self.stop), default=0)
        text, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        return text

    def flush(self) -> str:
        """What was held back, when no more tokens come."""
        text = self._held + self._decoder.decode(b"", final=True)
        self._held = ""
        return "" if self.stopped else text


def _overlap(text: str, stop: str) -> int:
    """Length of the longest proper prefix of `stop` that `text` ends with."""
    return next((n for n in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:n])), 0)


@dataclass(slots=True)
class Reasoning:
    """Splits a stream of text at the tags that models put around their thinking."""

    opening: str = "<think>"
    closing: str = "</think>"
    thinking: bool = False
    _held: str = ""

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
        keep = 0 if final else _overlap(self._held, tag)
        run, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        if run:
            yield run, self.thinking
