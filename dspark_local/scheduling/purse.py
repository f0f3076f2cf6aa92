"""How far a text may fall behind plain decoding: the best plan in the long run loses on some, and users read one."""

from __future__ import annotations

import math
from dataclasses import dataclass

_STAKE, _SLACK = 1.8, 0.003  # tokens that a text may fall behind plain decoding: at once, and for each that it makes
_SHARE = 0.0185  # or such a share of a long text, and of one that is bound to be short
_WHOLE = 128  # tokens of a text that the share is to hold for, however long others were
_FAITH, _GAIN = 10.0, 1.25  # and more of them for each unit that the running rate is above such a gain


@dataclass(slots=True)
class Purse:
    """Of one text: `tokens` it has made, and how many of them it is `ahead` of what plain decoding would have made.

    It will not have more than `most`, and is likely to have the `usual`.
    """

    most: float = math.inf
    usual: float = 0.0
    tokens: int = 0
    ahead: float = 0.0

    def left(self, *, trusting: bool = False) -> float:
        """Tokens that the text may still fall behind; no less for being short, where drafting is trusted to pay."""
        loose = max(_STAKE + _SLACK * self.tokens, _SHARE * max(self.tokens, min(self.usual, _WHOLE)))
        return (loose if trusting else min(loose, _SHARE * self.most)) + self.ahead

    def add(self, tokens: int, plain: float) -> None:
        """One round: the tokens it made, and those of plain decoding in its time."""
        self.tokens += tokens
        self.ahead += tokens - plain


def faith(gain: float) -> float:
    """What every purse holds beside, while drafting makes `gain` times as many tokens as plain decoding."""
    return _FAITH * max(0.0, gain - _GAIN)
