"""How far a text may fall behind plain decoding: the best plan in the long run loses on some, and users read one."""

from __future__ import annotations

from dataclasses import dataclass

_STAKE, _SLACK = 1.8, 0.003  # tokens that a text may fall behind plain decoding: at once, and for each that it makes
_SHARE = 0.0185  # or such a share of a long text
_FAITH, _GAIN = 10.0, 1.25  # and more of them for each unit that the running rate is above such a gain


@dataclass(slots=True)
class Purse:
    """Of one text: `tokens` it has made, and how many of them it is `ahead` of what plain decoding would have made."""

    tokens: int = 0
    ahead: float = 0.0

    @property
    def left(self) -> float:
        """Tokens that the text may still fall behind."""
        return max(_STAKE + _SLACK * self.tokens, _SHARE * self.tokens) + self.ahead

    def add(self, tokens: int, plain: float) -> None:
        """One round: the tokens it made, and those of plain decoding in its time."""
        self.tokens += tokens
        self.ahead += tokens - plain


def faith(gain: float) -> float:
    """What every purse holds beside, while drafting makes `gain` times as many tokens as plain decoding."""
    return _FAITH * max(0.0, gain - _GAIN)
