"""The running rate: tokens made, beside those that plain decoding would have made in the same time."""

from __future__ import annotations

from dataclasses import dataclass

_MEMORY = 0.98  # at each round: some 50 rounds
_START = 3.0  # rounds of plain decoding that it starts from


@dataclass(slots=True)
class Pace:
    """Both in tokens a request, faded round by round."""

    tokens: float = _START
    plain: float = _START

    @property
    def gain(self) -> float:
        """How many times as fast as plain decoding the last rounds were."""
        return self.tokens / self.plain

    def add(self, tokens: float, plain: float) -> None:
        """One round: the tokens it made, and those of plain decoding in its time."""
        self.tokens = _MEMORY * self.tokens + tokens
        self.plain = _MEMORY * self.plain + plain
