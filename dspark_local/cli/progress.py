"""How far loading is: one line on a terminal's standard error, gone when it is done."""

from __future__ import annotations

import sys
from typing import Self

BAR = 24


class Progress:
    """Call it as `load` calls its `progress`; leave the `with` block and the line is gone."""

    def __init__(self) -> None:
        self._shown = ""
        self._terminal = sys.stderr.isatty()

    def __call__(self, stage: str, share: float) -> None:
        """Show a stage and its share from 0 to 1."""
        done = round(BAR * min(1.0, max(0.0, share)))
        self._show(f"{stage:<20} {'━' * done}{' ' * (BAR - done)}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        if self._shown:
            self._show("")

    def _show(self, text: str) -> None:
        if self._terminal and text != self._shown:
            self._shown = text
            sys.stderr.write(f"\r\x1b[2K{text}")
            sys.stderr.flush()
