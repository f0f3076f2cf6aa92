"""How long work tells where it is: one call, whoever shows it.

A terminal draws a bar, the TUI moves one, a pipe gets lines.
"""

from __future__ import annotations

import time
from typing import Protocol

_UNITS = ((1_000_000_000, "GB", 1), (1_000_000, "MB", 0), (1_000, "kB", 0))
_PAUSE = 0.1  # seconds between two reports of a transfer


class Progress(Protocol):
    """Hears of a stage, in words for people, and its share from 0 to 1; from any thread, many times a second."""

    def __call__(self, stage: str, share: float, /) -> None:
        """Show it."""
        ...


def silent(_stage: str, _share: float) -> None:
    """Show nothing."""


class Transfer:
    """Bytes that arrive, told as `fetching x.gguf, 1.2 of 4.9 GB, 23 MB/s`; `done` of `total` were here before."""

    def __init__(self, progress: Progress, stage: str, total: int, done: int = 0) -> None:
        self._progress, self._stage, self._total = progress, stage, total
        self._done = self._before = done
        self._began = time.monotonic()
        self._told = -_PAUSE

    def add(self, n: int) -> None:
        """So many bytes more; fewer, if a transfer began anew."""
        self._done += n
        seconds = time.monotonic() - self._began
        if seconds - self._told >= _PAUSE or self._done >= self._total:
            self._told = seconds
            rate = f", {size((self._done - self._before) / seconds)}/s" if seconds > 1 else ""
            self._progress(f"{self._stage}, {of(self._done, self._total)}{rate}", self._done / max(1, self._total))


def size(n: float) -> str:
    """Bytes in decimal units, as hubs and disks count them."""
    for unit, name, digits in _UNITS:
        if n >= unit:
            return f"{n / unit:.{digits}f} {name}"
    return f"{max(0, round(n))} B"


def of(done: int, total: int) -> str:
    """`1.2 of 4.9 GB`, both in the unit of the whole."""
    unit, name, digits = next((u for u in _UNITS if total >= u[0]), (1, "B", 0))
    return f"{done / unit:.{digits}f} of {total / unit:.{digits}f} {name}"
