"""A conversation as a file for others to read."""

from __future__ import annotations

import json
import os
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dspark_local.chat import Message

_MOST = 48  # characters of a file name


def as_markdown(messages: Sequence[Message]) -> str:
    """Turns under headings; answers are Markdown already, and stay as they are."""
    return "\n\n".join(f"## {m.role.capitalize()}\n\n{m.content.strip()}" for m in messages) + "\n"


def as_json(messages: Sequence[Message], *, model: str) -> str:
    """The messages as other tools take them, and the model that answered."""
    turns = [{"role": m.role, "content": m.content} for m in messages]
    return json.dumps({"model": model, "messages": turns}, ensure_ascii=False, indent=2) + "\n"


def write(folder: Path, title: str, suffix: str, text: str) -> Path:
    """A new file named by the title; never one that is there already. Raises OSError."""
    stem = re.sub(r"\W+", "-", title.lower())[:_MOST].strip("-_") or "chat"
    handle, beside = tempfile.mkstemp(dir=folder, suffix=".part")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        n = 1
        while (path := folder / f"{stem}{'' if n == 1 else f'-{n}'}{suffix}").exists():
            n += 1
        path.touch(exist_ok=False)  # the name is ours now
        return Path(beside).replace(path)
    finally:
        Path(beside).unlink(missing_ok=True)
