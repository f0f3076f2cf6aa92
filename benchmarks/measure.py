"""One answer of a contestant, and the line that says how far a contest is."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dspark_local import RoundTimes


@dataclass(frozen=True, slots=True)
class Run:
    """One answer: `seconds` from its first round to its end, prefill left out; `times` what its decodes took.

    Its first token came with the prefill.
    """

    tokens: tuple[int, ...]
    seconds: float
    rounds: int
    times: RoundTimes

    @property
    def rate(self) -> float:
        """Tokens per second."""
        return (len(self.tokens) - 1) / self.seconds

    @property
    def accepted_length(self) -> float:
        """Tokens committed per round, the target's own included (τ)."""
        return (len(self.tokens) - 1) / self.rounds


def progress(line: str, *, last: bool) -> None:
    """On one line of a terminal; in a file, line by line."""
    here = sys.stderr.isatty()
    print(f"\r\x1b[K{line}" if here else line, end="" if here and not last else "\n", file=sys.stderr, flush=True)
