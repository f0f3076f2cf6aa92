"""How long a drafter is trained, and on how much at once."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """How long and how: `tokens` of a batch, `anchors` of a text in it, learning rates times `rate`.

    Every `interval` steps the drafter is judged and the run is written down; it ends early after `patience`
    judgements in a row that were no better than the best.
    """

    steps: int
    seed: int = 1
    tokens: int = 3072
    anchors: int = 24
    rate: float = 1.0
    interval: int = 250
    patience: int = 8
