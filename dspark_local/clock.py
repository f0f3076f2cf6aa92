"""Where the seconds of a step go."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from dspark_local.types import RoundTimes

if TYPE_CHECKING:
    from dspark_local.backend.base import Target
    from dspark_local.drafters.base import Drafter


class Clock:
    """Splits the seconds of a step among its parts; what no decode took is the host's."""

    def __init__(self, target: Target, drafter: Drafter) -> None:
        self._target, self._drafter = target, drafter
        self._began = time.perf_counter()
        self._busy = self._read()
        self._parts = {"prefill": 0.0, "draft": 0.0, "verify": 0.0, "inject": 0.0}

    def _read(self) -> float:
        return self._target.busy + self._drafter.busy

    def lap(self, part: str) -> float:
        """What models took since the last lap is this part's; how long that was."""
        busy = self._read()
        seconds, self._busy = busy - self._busy, busy
        self._parts[part] += seconds
        return seconds

    def decoded(self, *, prefilled: int, verified: int) -> float:
        """What models took since the last lap went into rows of prompts and of the round; the prompts' seconds."""
        seconds = self.lap("verify")
        aside = seconds * prefilled / max(1, prefilled + verified)
        self._parts["verify"] -= aside
        self._parts["prefill"] += aside
        return aside

    def stop(self) -> RoundTimes:
        """The parts, and the host's."""
        host = time.perf_counter() - self._began - sum(self._parts.values())
        return RoundTimes(**self._parts, host=max(0.0, host))
