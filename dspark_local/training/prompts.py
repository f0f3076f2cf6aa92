"""What is asked of the target: conversations out of files, as DeepSpec has them or one prompt a line."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from dspark_local.chat import Message
from dspark_local.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

Conversation = tuple[Message, ...]
_ROLES = {"human": "user", "gpt": "assistant", "user": "user", "assistant": "assistant", "system": "system"}
_LISTS = ("conversations", "messages")
_TEXTS = ("prompt", "question", "instruction", "text")


def read(path: Path) -> list[Conversation]:
    """Conversations of a file, each up to its last question.

    `.jsonl`: objects with `conversations` or `messages` (role and content, or from and value), with `turns` (what the
    user says, turn by turn; the first is asked), or with one text (`prompt`, `question`, `instruction` or `text`).
    Any other file: one prompt a line. Raises UsageError, naming file and line.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read prompts from {path}: {getattr(error, 'strerror', None) or error}") from None
    found = [_of(path, n, line) for n, line in enumerate(lines, 1) if line.strip()]
    if not found:
        raise UsageError(f"{path} holds no prompt; write one a line")
    return found


def read_all(paths: Iterable[Path]) -> list[Conversation]:
    """Conversations of all files, each once. Raises UsageError as `read` does."""
    return list(dict.fromkeys(c for path in paths for c in read(path)))


def digest(conversations: Iterable[Conversation]) -> str:
    """What tells one list of conversations from another."""
    said = [[(m.role, m.content) for m in c] for c in conversations]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:16]


def _of(path: Path, n: int, line: str) -> Conversation:
    if path.suffix != ".jsonl":
        return (Message("user", line.strip()),)
    try:
        messages = _messages(json.loads(line))
    except (ValueError, TypeError, LookupError, AttributeError, StopIteration, RecursionError):
        messages = ()
    while messages and messages[-1].role != "user":  # the answer is the target's to give
        messages = messages[:-1]
    if not messages:
        keys = ", ".join((*_LISTS, "turns", *_TEXTS))
        raise UsageError(f"{path}, line {n}: no question to ask; a line is a JSON object with one of {keys}")
    return messages


def _messages(entry: dict[str, Any]) -> Conversation:
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
