"""What is asked of the target: the conversations of prompt files, each once, and which they are."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from dspark_local.bench.prompts import read
from dspark_local.chat import Message

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

Conversation = tuple[Message, ...]


def conversations(path: Path) -> list[Conversation]:
    """Of one file. Raises UsageError as `read` does."""
    return [tuple(prompt.messages) for prompt in read(path)]


def read_all(paths: Iterable[Path]) -> list[Conversation]:
    """Of all files, each once. Raises UsageError as `read` does."""
    return list(dict.fromkeys(c for path in paths for c in conversations(path)))


def digest(asked: Iterable[Conversation]) -> str:
    """What tells one list of conversations from another."""
    said = [[(m.role, m.content) for m in c] for c in asked]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:16]
