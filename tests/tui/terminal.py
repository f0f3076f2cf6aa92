"""The real program in a real terminal: tmux types, and shows what is on the screen."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from pathlib import Path

PATIENCE = 30.0  # seconds until a test gives up; a busy machine is no failure
_TMUX = shutil.which("tmux")
MISSING = "tmux is not installed" if _TMUX is None else ""


@dataclass
class Terminal:
    """A server of its own, so that nobody else's sessions are touched."""

    home: Path
    size: tuple[int, int] = (80, 24)
    environment: tuple[str, ...] = ()
    server: str = ""

    def __enter__(self) -> Self:
        """Start the chat on the demo pair."""
        self.server = f"dspark-{uuid.uuid4().hex[:8]}"
        folders = [f"XDG_{name}_HOME={self.home}" for name in ("DATA", "CONFIG", "CACHE")]
        variables = [*folders, "OMP_NUM_THREADS=1", "COLORTERM=truecolor", *self.environment]
        chat = [sys.executable, "-m", "dspark_local.cli.main", "chat", "demo", "--policy", "fixed:3", "--threads", "1"]
        command = shlex.join(["env", "-C", str(self.home), "-u", "NO_COLOR", *variables, *chat])
        columns, rows = self.size
        told = f"{command}; echo $? > {shlex.quote(str(self._code))}"  # tmux at times never learns it
        self._tmux("-f", "/dev/null", "new-session", "-d", "-s", "chat", "-x", f"{columns}", "-y", f"{rows}", told)
        self._tmux("set-option", "-g", "remain-on-exit", "on")
        return self

    def __exit__(self, *_: object) -> None:
        self._tmux("kill-server", check=False)

    def type(self, *keys: str) -> None:
        """Keys by tmux's names; a text of several characters as it is."""
        for key in keys:
            named = len(key) == 1 or key in _NAMED or key.startswith(("C-", "M-"))
            self._tmux("send-keys", "-t", "chat", *([] if named else ["-l"]), key)

    def seen(self, *options: str) -> str:
        """The text on the screen; with `-e`, its colours too."""
        return self._tmux("capture-pane", "-p", "-t", "chat", *options)

    def until(self, text: str, *, gone: bool = False) -> str:
        """Wait until a text is on the screen, however its lines are broken, or is not; returns the screen."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            seen = self.seen()
            if (text in " ".join(seen.split())) != gone:
                return seen
            time.sleep(0.05)
        raise AssertionError(f"{text!r} {'stays' if gone else 'does not come'}:\n{self.seen()}")

    def ends(self) -> int:
        """Wait until the program has ended; returns its exit code."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            if self._code.exists() and (code := self._code.read_text()):
                return int(code)
            time.sleep(0.05)
        raise AssertionError(f"it does not end:\n{self.seen()}")

    @property
    def _code(self) -> Path:
        return self.home / "exit-code"

    def _tmux(self, *arguments: str, check: bool = True) -> str:
        assert _TMUX
        environment = {**os.environ, "TERM": "xterm-256color"}
        done = subprocess.run(
            [_TMUX, "-L", self.server, *arguments], capture_output=True, text=True, check=check, env=environment
        )
        return done.stdout


_NAMED = {"Enter", "Escape", "Tab", "BSpace", "Up", "Down", "Left", "Right", "PageUp", "PageDown"} | {
    f"F{n}" for n in range(1, 13)
}
