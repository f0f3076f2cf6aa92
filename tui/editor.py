"""The user's own editor."""

from __future__ import annotations

import os
import shlex
import subprocess
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
            command = [*shlex.split(named), str(path)]
            code = subprocess.run(command, check=False).returncode  # noqa: S603 - the user's choice
            after = path.read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise UsageError(f"$EDITOR ({named}) does not work: {error}") from error
    if code:
        raise UsageError(f"$EDITOR ({named}) ended with {code}, so nothing was taken over")
    return after.rstrip("\n")
