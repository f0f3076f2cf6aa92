"""The texts that run in the slots: what their blocks showed, what is believed of the next, and what each may lose."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dspark_local.scheduling.forecast import History
from dspark_local.scheduling.purse import Purse

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dspark_local.scheduling.forecast import Forecast
    from dspark_local.scheduling.policy import Request

_USUAL = 64.0  # tokens that a text is expected to have
_LONGER, _SHORTER = 0.2, 0.5  # how fast that follows what they had: most texts are to be at least so long


@dataclass(slots=True)
class Text:
    """One slot's: its `history` outlives a text, in part; `belief` is a_k of its next block, from `features`."""

    history: History = field(default_factory=History)
    purse: Purse = field(default_factory=Purse)
    features: list[float] = field(default_factory=list)
    belief: list[float] = field(default_factory=list)


@dataclass(slots=True)
class Texts:
    """All of them, by slot; `usual` is how long they are."""

    usual: float = _USUAL
    slots: dict[int, Text] = field(default_factory=dict)

    def __getitem__(self, slot: int) -> Text:
        return self.slots[slot]

    def foresee(self, requests: Sequence[Request], forecast: Forecast) -> None:
        """Believe something of every request's next block; a new one begins another text in its slot."""
        rate, texts = forecast.rate, []
        for r in requests:
            text = self.slots.get(r.slot) or self.slots.setdefault(r.slot, Text())
            if r.rounds == 0:
                self._begin(text, r)
            text.features = text.history.features(rate)
            texts.append(text)
        for text, belief in zip(texts, forecast.survival([t.features for t in texts]), strict=True):
            text.belief = belief

    def left(self, request: Request) -> float:
        """Tokens that a text is expected to go on for."""
        return min(request.limit, self.usual)

    def _begin(self, text: Text, request: Request) -> None:
        text.history.renew()
        if text.purse.tokens:
            longer = text.purse.tokens - self.usual
            self.usual += longer * (_LONGER if longer > 0 else _SHORTER)
        text.purse = Purse(request.limit + 1, self.usual)
