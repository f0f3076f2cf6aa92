"""The user's own editor."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

from dspark_local.errors import UsageError


def edited(text: str) -> str:
    """What the user makes of a text in $VISUAL or $EDITOR. Raises UsageError when that does not work."""
    named = os.environ.get("VISUAL") or os.environ.get("EDITOR")
    if not named:
        raise UsageError("set $EDITOR to the editor that you like")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "message.md"
        path.write_text(text, encoding="utf-8")
        try:
            code = subprocess.run(_command(named, path), check=False).returncode  # noqa: S603 - the user's choice
            after = path.read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise UsageError(f"$EDITOR ({named}) does not work: {error}") from error
    if code:
        raise UsageError(f"$EDITOR ({named}) ended with {code}, so nothing was taken over")
    return after.rstrip("\n")


def _command(named: str, path: Path) -> list[str] | str:
    """The editor with its options, and the file; Windows reads a line by itself, whose paths have backslashes."""
    return f'{named} "{path}"' if sys.platform == "win32" else [*shlex.split(named), str(path)]
