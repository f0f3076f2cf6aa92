"""What is asked, to measure or to learn from the answers: built in by kind, or from the user's files."""

from __future__ import annotations

import json
from importlib import resources
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dspark_local.chat import Message
from dspark_local.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

KINDS = {
    "code": "a function to write",
    "math": "a problem to work out step by step",
    "chat": "a question to answer in prose",
    "copy": "a text to repeat with one change",
    "entropy": "text that nobody can foresee, drawn hot",
}


_ROLES = {"human": "user", "gpt": "assistant", "user": "user", "assistant": "assistant", "system": "system"}
_LISTS = ("conversations", "messages")
_TEXTS = ("prompt", "question", "instruction", "text")


class Prompt(BaseModel):
    """One question, what was said before it, its kind, and the temperature at which it is answered.

    `raw` continues it as it is, without the chat template.
    """

    model_config = ConfigDict(frozen=True)

    prompt: str = Field(min_length=1)
    before: tuple[Message, ...] = ()
    kind: str = "prompt"
    temperature: float = Field(default=0.0, ge=0.0)
    raw: bool = False

    @property
    def messages(self) -> list[Message]:
        """The conversation up to the answer."""
        return [*self.before, Message("user", self.prompt)]


def built_in() -> list[Prompt]:
    """Some of every kind."""
    text = resources.files("dspark_local.bench").joinpath("prompts.jsonl").read_text(encoding="utf-8")
    return [Prompt.model_validate_json(line) for line in text.splitlines()]


def read(path: Path) -> list[Prompt]:
    """Prompts of a file, conversations each up to its last question.

    `.jsonl`: objects with `conversations` or `messages` (role and content, or from and value), with `turns` (what the
    user says, turn by turn; the first is asked), or with one text (`prompt`, `question`, `instruction` or `text`), as
    DeepSpec and its evaluation sets have them; `kind`, `temperature` and `raw` are ours. Any other file: one prompt a
    line. Raises UsageError, naming file and line.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read prompts from {path}: {getattr(error, 'strerror', None) or error}") from None
    prompts = [_of(path, n, line) for n, line in enumerate(lines, 1) if line.strip()]
    if not prompts:
        raise UsageError(f"{path} holds no prompt; write one a line")
    return prompts


def _of(path: Path, n: int, line: str) -> Prompt:
    if path.suffix != ".jsonl":
        return Prompt(prompt=line.strip())
    entry: dict[str, Any] = {}
    try:
        entry = json.loads(line)
        messages = _messages(entry)
    except (ValueError, TypeError, LookupError, AttributeError, StopIteration, RecursionError):
        messages = ()
    while messages and messages[-1].role != "user":  # the answer is the target's to give
        messages = messages[:-1]
    if not messages:
        keys = ", ".join((*_LISTS, "turns", *_TEXTS))
        raise UsageError(f"{path}, line {n}: no question to ask; a line is a JSON object with one of {keys}")
    own = {key: entry[key] for key in ("kind", "temperature", "raw") if key in entry}
    try:
        return Prompt(prompt=messages[-1].content, before=messages[:-1], **own)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UsageError(f"{path}, line {n}: {where}: {first['msg'].lower()}") from None


def _messages(entry: dict[str, Any]) -> tuple[Message, ...]:
    for key in _LISTS:
        if key in entry:
            turns = [(_either(turn, "role", "from"), _either(turn, "content", "value")) for turn in entry[key]]
            return tuple(Message(_ROLES[role], text) for role, text in turns)
    if "turns" in entry:
        return (Message("user", _text(entry["turns"][0])),)
    return (Message("user", next(_text(entry[key]) for key in _TEXTS if key in entry)),)


def _either(message: dict[str, Any], first: str, second: str) -> str:
    return _text(message[first] if first in message else message[second])


def _text(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError
    return value
