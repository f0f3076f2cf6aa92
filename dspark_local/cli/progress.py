"""How far long work is: one line on a terminal's standard error, gone when done; elsewhere a line now and then."""

from __future__ import annotations

import sys
import time
from typing import Self

from dspark_local.cli.main import say

BAR = 24
PATIENCE = 10.0  # seconds of a stage before a pipe hears of it, and between two lines there


class Progress:
    """Call it as `load` calls its `progress`; leave the `with` block and the line is gone."""

    def __init__(self) -> None:
        self._shown = ""
        self._said = time.monotonic()
        self._terminal = sys.stderr.isatty()

    def __call__(self, stage: str, share: float) -> None:
        """Show a stage and its share from 0 to 1."""
        share = min(1.0, max(0.0, share))
        if not self._terminal:
            self._say(stage, share)
            return
        done = round(BAR * share)
        self._show(f"{stage:<20} {'━' * done}{' ' * (BAR - done)}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        if self._shown:
            self._show("")

    def _say(self, stage: str, share: float) -> None:
        now = time.monotonic()
        if now - self._said >= PATIENCE:
            self._said = now
            say(f"{stage} ({share:.0%})")

    def _show(self, text: str) -> None:
        if text != self._shown:
            self._shown = text
            sys.stderr.write(f"\r\x1b[2K{text}")
            sys.stderr.flush()
