"""Texts and machines to try a policy on where none were recorded: say so wherever a figure from them is printed.

Acceptance is drawn per kind of text so that confidence ranks it about as well as in Figure 6 of the paper; the first
three machines were measured, the others have the shapes of what CUDA, Metal and a mixture of experts do.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dspark_local.scheduling.cost import CostTable
from dspark_local.scheduling.curve import MEASURED, Curve
from dspark_local.scheduling.simulate import Trace

# Mean log-odds of acceptance at the first position, by kind of text
KINDS = {"code": 2.2, "new code": 1.6, "prose": 1.0, "tables": 2.6, "copy": 3.6, "base64": -1.3}
_SPREAD, _TIE, _FALL = 1.2, 0.5, 0.08  # of the log-odds: over tokens, between neighbours, by position
_DOUBT = 0.7  # error of the confidence head, in log-odds


@dataclass(frozen=True, slots=True)
class Machine:
    """Seconds relative to one plain token: target decode at `widths`, drafting `draft` + `draft_row`·γ."""

    widths: tuple[tuple[int, float], ...]
    draft: float = 0.25
    draft_row: float = 0.05
    inject: float = 0.037
    inject_row: float = 0.003
    host: float = 0.01
    host_row: float = 0.001

    def table(
        self, plain: float = 0.031, *, slots: int = 1, gamma: int = 7, depths: dict[int, float] | None = None
    ) -> CostTable:
        """Its cost table at `plain` seconds a token. `depths` scales the decodes of each bucket of depth.

        Between the known widths seconds are interpolated; beyond them they go on as between the last two.
        """
        rows = np.arange(1, slots * (2 * gamma + 1) + 1)
        decode = plain * self._decode(rows[: slots * (gamma + 1)])
        buckets = {bucket: Curve(decode * share, MEASURED) for bucket, share in (depths or {0: 1.0}).items()}
        return CostTable(
            buckets,
            Curve(plain * (self.draft + self.draft_row * rows[: slots * gamma]), MEASURED),
            Curve(plain * (self.inject + self.inject_row * np.arange(1, 65)), MEASURED),
            Curve(plain * (self.host + self.host_row * rows), MEASURED),
        )

    def _decode(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        known, seconds = (np.array(column, dtype=np.float64) for column in zip(*self.widths, strict=True))
        slope = (seconds[-1] - seconds[-2]) / (known[-1] - known[-2])
        beyond = np.maximum(0.0, rows - known[-1])
        decode: npt.NDArray[np.float64] = np.interp(rows, known, seconds) + slope * beyond
        return decode


def _measured(*seconds: float) -> tuple[tuple[int, float], ...]:
    return tuple(zip((1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 16), seconds, strict=True))


MACHINES = {
    "Q4_0 repack": Machine(_measured(1.00, 1.25, 1.56, 1.11, 1.56, 1.86, 2.16, 1.97, 2.31, 2.75, 3.00)),
    "Q4_K repack": Machine(_measured(1.00, 1.23, 1.52, 1.50, 1.83, 2.11, 2.44, 2.58, 2.72, 3.12, 3.28)),
    "Q4_0 generic": Machine(_measured(1.00, 0.85, 0.97, 1.08, 1.58, 1.65, 1.78, 1.79, 2.21, 2.42, 3.25)),
    # T(1) 39 ms, T(4) 45, T(8) 79, draft 27 at γ 3 and 43 at γ 7: heads of 152k tokens beside a small target
    "Q4_0, 152k tokens": Machine(
        ((1, 1.0), (2, 1.2), (3, 1.45), (4, 1.15), (5, 1.6), (8, 2.03), (16, 3.1)), 0.385, 0.103
    ),
    "CUDA-like": Machine(((1, 1.0), (8, 1.05), (9, 1.80), (16, 1.95)), 0.20, 0.015),
    "Metal-like": Machine(((1, 1.0), (2, 1.25), (16, 4.75))),
    "MoE-like": Machine(((1, 1.0), (2, 3.0), (8, 6.2), (16, 8.5)), 0.25, 0.03),
}


def text(
    kind: str, n: int, rng: np.random.Generator, *, gamma: int = 7, temperature: float = 0.0, depth: int = 0
) -> Trace:
    """A text of n tokens. Its difficulty wanders from token to token; a block's later positions do a little worse."""
    wander = np.empty(n + gamma)
    drift = rng.normal(size=n + gamma)
    wander[0] = drift[0]
    for i in range(1, n + gamma):
        wander[i] = _TIE * wander[i - 1] + (1 - _TIE**2) ** 0.5 * drift[i]
    position = np.arange(gamma)
    odds = KINDS[kind] - 0.5 * temperature + _SPREAD * wander[np.arange(n)[:, None] + position] - _FALL * position
    right = rng.random((n, gamma)) < 1 / (1 + np.exp(-odds))
    stated = 1 / (1 + np.exp(-(odds + _DOUBT * rng.normal(size=odds.shape))))
    return Trace(right.cumprod(axis=1).sum(axis=1), stated, kind, temperature, depth)


def mix(n: int, texts: int, seed: int, *, gamma: int = 7) -> list[Trace]:
    """`texts` texts of n tokens of each kind, kind after kind."""
    rng = np.random.default_rng(seed)
    return [text(kind, n, rng, gamma=gamma) for _ in range(texts) for kind in KINDS]


def disturbed(table: CostTable, share: float, seed: int) -> CostTable:
    """A table whose every entry is wrong by ± `share`, known as a guess only: a start to learn from."""
    rng = np.random.default_rng(seed)

    def wrong(curve: Curve) -> Curve:
        return Curve(np.array(curve.seconds) * (1 + share * rng.choice([-1, 1], len(curve))))

    decode = {bucket: wrong(curve) for bucket, curve in table.decode.items()}
    return CostTable(decode, wrong(table.draft), wrong(table.inject), wrong(table.host))
