"""What was learned, kept between runs: one JSON file of values by key, of which the latest stay."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

VERSION = 1  # of what the values mean; a file of another version is as good as none
_MOST = 64  # keys kept


def read(path: Path, key: str) -> object:
    """The value kept under `key`; None when there is none, or the file is missing, damaged or of another version."""
    return _entries(path).get(key)


def write(path: Path, key: str, value: Mapping[str, object]) -> None:
    """Keep `value` under `key`; a damaged file is replaced. Nothing happens where the file cannot be written."""
    entries = {k: v for k, v in _entries(path).items() if k != key}
    entries[key] = value
    with contextlib.suppress(OSError):  # it would be learned anew: seconds lost, not the program
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, beside = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".part")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump({"version": VERSION, "entries": dict([*entries.items()][-_MOST:])}, file)
            Path(beside).replace(path)
        finally:
            Path(beside).unlink(missing_ok=True)


def _entries(path: Path) -> dict[str, object]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):  # none yet, or damaged
        return {}
    if not isinstance(content, dict) or content.get("version") != VERSION:
        return {}
    entries = content.get("entries")
    return entries if isinstance(entries, dict) else {}
