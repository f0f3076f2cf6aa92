"""The cost table: seconds of a round's parts. SPS(B) of the paper, and what that leaves out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from dspark_local.errors import UsageError
from dspark_local.scheduling import store
from dspark_local.scheduling.curve import GUESS, Curve

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from dspark_local.types import RoundTimes

_SHALLOW = 512  # tokens below which depth does not matter
_INJECTED = 64  # rows that the injection curve tells apart; beyond, in proportion
# Shares of one plain token's seconds before anything is measured: between the measured curves of docs/scheduling.md
_ROW, _DRAFT, _DRAFT_ROW, _INJECT, _INJECT_ROW, _HOST_ROW = 0.12, 0.25, 0.05, 0.035, 0.003, 0.003


@dataclass(slots=True)
class CostTable:
    """Seconds by part.

    `decode` by rows and depth, `draft` by rows (sequences · γ), `inject` by rows, and `host` by all the rows that it
    picks from, drafted and verified.

    There is a decode curve for each doubling of depth that was met; a new one starts as its nearest.
    """

    decode: dict[int, Curve]
    draft: Curve
    inject: Curve
    host: Curve

    @classmethod
    def guess(cls, plain: float = 0.03, *, slots: int = 1, gamma: int = 7, longest: int = 0) -> Self:
        """A start from the seconds of one plain token. Raises UsageError when they are no positive number.

        `longest` is the most drafts that a slot verifies, if more than γ.
        """
        if not (math.isfinite(plain) and plain > 0):
            raise UsageError(f"the seconds of one token must be a positive number, not {plain}")
        longest = max(gamma, longest)
        return cls(
            {0: _line(plain, 1 - _ROW, _ROW, slots * (longest + 1))},
            _line(plain, _DRAFT, _DRAFT_ROW, max(1, slots * gamma)),
            _line(plain, _INJECT, _INJECT_ROW, max(_INJECTED, slots * (gamma + 1))),
            _line(plain, 0, _HOST_ROW, slots * (gamma + longest + 1)),
        )

    def at(self, depth: int) -> Curve:
        """Target decodes with `depth` tokens in the cache, over all sequences."""
        bucket = (max(0, depth) // _SHALLOW).bit_length()
        if bucket not in self.decode:
            nearest = min(self.decode, key=lambda known: abs(known - bucket))
            self.decode[bucket] = self.decode[nearest].copy(seen=2 * GUESS)
        return self.decode[bucket]

    def learn(self, times: RoundTimes, *, rows: int, drafted: int, pending: int, depth: int) -> None:
        """Take in a round of `rows` verified, `drafted` proposed and `pending` injected rows.

        A step that also prefilled says nothing of the decode, which prompts went along with, nor of the host. Nor do
        parts without rows, whatever ran in them.
        """
        if drafted:
            self.draft.learn(drafted, times.draft)
        if pending:
            self.inject.learn(pending, times.inject)
        if not times.prefill:
            self.at(depth).learn(rows, times.verify)
            self.host.learn(rows + drafted, times.host)

    def seconds(self, *, rows: int, drafted: int = 0, pending: int = 0, depth: int = 0) -> float:
        """Seconds of such a round."""
        return self.at(depth)(rows) + self.draft(drafted) + self.inject(pending) + self.host(rows + drafted)

    @classmethod
    def load(cls, path: Path, identity: str, *, slots: int = 1, gamma: int = 7, longest: int = 0) -> Self | None:
        """The table kept for `identity` (all that the seconds depend on), or None when there is no sound one.

        Nor is one that was made for fewer slots, a smaller γ or fewer drafts.
        """
        try:
            table = cls._of(store.read(path, identity))
        except (TypeError, ValueError, KeyError, AttributeError, OverflowError):  # damaged: measured and written anew
            return None
        return table if table and table.covers(slots, gamma, longest) else None

    def covers(self, slots: int, gamma: int, longest: int = 0) -> bool:
        """Whether it reaches as far as so many slots at γ, or with the longest drafts, can."""
        return (
            min(map(len, self.decode.values())) >= slots * (max(gamma, longest) + 1)
            and len(self.draft) >= slots * gamma
            and len(self.host) >= slots * (2 * gamma + 1)
        )

    def save(self, path: Path, identity: str) -> None:
        """Keep the table for `identity`, beside those of others."""
        parts = {"draft": self.draft, "inject": self.inject, "host": self.host}
        kept: dict[str, object] = {name: _listed(curve) for name, curve in parts.items()}
        kept["decode"] = {str(bucket): _listed(curve) for bucket, curve in self.decode.items()}
        store.write(path, identity, kept)

    @classmethod
    def _of(cls, kept: object) -> Self | None:
        if not isinstance(kept, dict) or not kept["decode"]:
            return None
        decode = {int(bucket): _curve(curve) for bucket, curve in kept["decode"].items()}
        return cls(decode, _curve(kept["draft"]), _curve(kept["inject"]), _curve(kept["host"]))


def _listed(curve: Curve) -> dict[str, list[float]]:
    return {"seconds": curve.seconds, "seen": curve.seen}


def _line(plain: float, start: float, row: float, rows: int) -> Curve:
    return Curve([plain * (start + row * n) for n in range(1, rows + 1)])


def _curve(kept: Mapping[str, list[float]]) -> Curve:
    seconds, seen = [float(s) for s in kept["seconds"]], [float(n) for n in kept["seen"]]
    if not seconds or len(seconds) != len(seen) or not all(0 <= x < math.inf for x in (*seconds, *seen)):
        raise ValueError
    return Curve(seconds, seen)
