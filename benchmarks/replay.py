"""Judge policies by replaying recorded rounds (traces.py) on cost tables: modelled ones, and those of this machine.

    python benchmarks/replay.py --measure 0.6b 1.7b      # time the scaled pairs here first, and keep their tables
    python benchmarks/replay.py --markdown build/replay.md

Seconds are the tables', acceptance and confidence are the recorded ones; nothing else is timed. Learners begin with a
table and no calibration, and keep what they learn from text to text.
"""

from __future__ import annotations

import argparse
import sys
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from gguf import GGMLQuantizationType
from scale import SIZES, Types, scaled_pair
from traces import TRACES, load_traces

from dspark_local import load
from dspark_local.bench import machine
from dspark_local.bench.figures import geometric_mean
from dspark_local.bench.tables import table
from dspark_local.scheduling.calibration import Calibration
from dspark_local.scheduling.cost import CostTable
from dspark_local.scheduling.policies import Paper, Threshold
from dspark_local.scheduling.policy import Fixed, Policy
from dspark_local.scheduling.reliability import by_position
from dspark_local.scheduling.scheduler import Auto
from dspark_local.scheduling.simulate import Trace, hindsight, replay
from dspark_local.scheduling.synthetic import MACHINES, disturbed

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

COSTS = TRACES.with_name("costs.json")
GAMMA = 7
WHOLE = 128  # tokens of a text that was not over sooner
Q4 = Types(GGMLQuantizationType.Q4_0, GGMLQuantizationType.Q4_0)


@dataclass(frozen=True, eq=False)
class Bench:
    """One cost table, and the texts."""

    name: str
    costs: CostTable
    texts: tuple[Trace, ...]

    def rate(self, policy: Policy, texts: tuple[Trace, ...] | None = None) -> float:
        """Tokens per second over texts, all by default."""
        return replay(texts or self.texts, deepcopy(self.costs), policy).rate

    def auto(self, *, start: CostTable | None = None) -> Auto:
        """One that begins with the true costs, or others."""
        return Auto(deepcopy(start or self.costs), GAMMA)

    @cache  # noqa: B019 - a handful of benches live as long as the script
    def fixed(self, gamma: int, kind: str | None = None) -> float:
        """Rate of a fixed length over a kind."""
        return self.rate(Fixed(gamma), self.of(kind))

    @cache  # noqa: B019 - as above
    def best(self, kind: str | None = None) -> float:
        """Rate of the best fixed length that hindsight picks for a kind; 0 is plain."""
        return max(self.fixed(g, kind) for g in range(GAMMA + 1))

    @cache  # noqa: B019 - as above
    def alone(self, kind: str) -> float:
        """Rate of auto over a kind of text, of which it knows nothing before."""
        return self.rate(self.auto(), self.of(kind))

    def of(self, kind: str | None) -> tuple[Trace, ...]:
        """Texts of a kind; all of them for None."""
        return tuple(t for t in self.texts if kind in (None, t.kind))

    def oracle(self) -> float:
        """Rate of who knows every acceptance beforehand."""
        return sum(map(len, self.texts)) / sum(hindsight(t, self.costs)[0] for t in self.texts)

    def slow_texts(self) -> list[float]:
        """Rate against plain of every text, in order, one auto reading them all."""
        auto, ratios = self.auto(), []
        for text in self.texts:
            plain = replay([text], deepcopy(self.costs), Fixed(0)).rate
            ratios.append(replay([text], deepcopy(self.costs), auto).rate / plain)
        return ratios


def speeds(benches: list[Bench]) -> str:
    """× plain over the mix, policies by cost table."""
    head = ("cost table", "fixed 3", "fixed 7", "threshold .5", "Alg. 1", "best γ", "auto", "auto / best γ", "20 % off",
            "auto / oracle")  # fmt: skip
    rows, ratios = [], []
    for b in benches:
        plain = b.fixed(0)
        auto, oracle = b.rate(b.auto()), b.oracle()
        off = min(b.rate(b.auto(start=disturbed(b.costs, 0.2, seed))) for seed in (1, 2))
        others = (b.fixed(3), b.fixed(7), b.rate(Threshold(0.5)), b.rate(Paper(deepcopy(b.costs))), b.best(), auto)
        shares = (auto / b.best(), off / b.best(), auto / oracle)
        ratios.append((*shares, auto / b.fixed(7), auto / b.fixed(3)))
        rows.append((b.name, *(f"{x / plain:.2f}" for x in others), *(f"{x:.3f}" for x in shares)))
    means = [geometric_mean(column) for column in zip(*ratios, strict=True)]
    rows.append(("geometric mean", "", "", "", "", "", "", *(f"{x:.3f}" for x in means[:3])))
    return f"{table(head, rows)}\n\nauto against fixed 7: {means[3]:.2f} ×, against fixed 3: {means[4]:.2f} ×."


def by_kind(benches: list[Bench], kinds: list[str], against: Callable[[Bench, str], float]) -> str:
    """Auto alone with each kind of text, against something."""
    rows = [(b.name, *(f"{b.alone(kind) / against(b, kind):.3f}" for kind in kinds)) for b in benches]
    return table(("cost table", *kinds), rows)


def slow(benches: list[Bench]) -> str:
    """Texts that auto makes slower than plain decoding."""
    rows = []
    for b in benches:
        ratios = np.array(b.slow_texts())
        whole = ratios[[len(text) >= WHOLE for text in b.texts]]
        shares = [f"{100 * (some < least).mean():.1f} %" for some in (whole, ratios) for least in (0.98, 0.95)]
        rows.append((b.name, *shares, f"{whole.min():.3f}"))
    head = ("cost table", "128 tokens: below 0.98", "below 0.95", "all: below 0.98", "below 0.95", "least of 128")
    return table(head, rows)


def calibrated(texts: tuple[Trace, ...]) -> str:
    """ECE by position, each text judged by what was fitted to the other half of them.

    `exact` is what chance leaves of it: the error of chances that are exactly right, in so many rounds.
    """
    rows = []
    for temperature in sorted({t.temperature for t in texts}):
        some = [t for t in texts if t.temperature == temperature]
        halves = [(_fitted(some[1 - n :: 2], temperature), some[n::2]) for n in (0, 1)]
        judged = [t for _, half in halves for t in half]
        accepted = np.concatenate([t.accepted for t in judged])
        said = np.concatenate([t.confidences for t in judged])
        survival = [f.survival(row, temperature) for f, half in halves for t in half for row in t.confidences.tolist()]
        for name, eces in (
            ("raw", _eces(said.cumprod(axis=1), accepted)),
            ("calibrated", _eces(np.array(survival), accepted)),
            ("exact", np.mean([_eces(np.array(survival), _drawn(np.array(survival), n)) for n in range(10)], axis=0)),
        ):
            rows.append((f"{name}, T = {temperature:g}", f"{len(accepted)}", *(f"{100 * ece:.1f}" for ece in eces)))
    return table(("ECE, %", "rounds", *(str(k) for k in range(1, GAMMA + 1))), rows)


def _fitted(texts: list[Trace], temperature: float) -> Calibration:
    fitted, confidences = Calibration(GAMMA), np.concatenate([t.confidences for t in texts])
    whole = np.full(len(confidences), GAMMA)
    fitted.fit(confidences, whole, np.concatenate([t.accepted for t in texts]), temperature)
    return fitted


def _eces(survival: Floats, accepted: npt.ArrayLike) -> list[float]:
    return [r.ece for r in by_position(survival, np.full(len(survival), GAMMA), accepted)]


def _drawn(survival: Floats, seed: int) -> npt.NDArray[np.int64]:
    """Acceptances as these chances would have them."""
    return (np.random.default_rng(seed).random((len(survival), 1)) < survival).sum(axis=1)


def measured(shape: str) -> CostTable:
    """Time the pair cost-scaled to a shape, as loading it does, and keep the table."""
    pair = scaled_pair(SIZES[shape], types=Q4)
    assert pair.drafter

    def tell(stage: str, share: float) -> None:
        print(f"\r{shape}: {stage} {100 * share:.0f} %   ", end="", file=sys.stderr, flush=True)

    with load(pair.target, drafter=pair.drafter, ctx_size=1024, remeasure=True, progress=tell) as runtime:
        assert isinstance(runtime.policy, Auto)
        costs = runtime.policy.cost
    costs.save(COSTS, shape)
    return costs


def main() -> None:
    """Replay, print, and write a file if asked to."""
    parser = argparse.ArgumentParser(description="Judge policies by replaying recorded rounds on cost tables.")
    parser.add_argument("--measure", choices=SIZES, nargs="*", default=[], help="time these shapes here first")
    parser.add_argument("--texts", type=int, default=400, help="replayed; all calibrate (default: %(default)s)")
    parser.add_argument("--markdown", type=Path, help="write the tables to this file too")
    options = parser.parse_args()
    for shape in options.measure:
        measured(shape)
    if not TRACES.is_file():
        parser.error(f"no traces in {TRACES}; run benchmarks/traces.py first")
    texts = load_traces()
    np.random.default_rng(5).shuffle(texts)
    here = {f"here, {shape}": CostTable.load(COSTS, shape) for shape in SIZES}
    tables = {name: m.table() for name, m in MACHINES.items()} | {n: t for n, t in here.items() if t}
    replayed = tuple(texts[: options.texts])
    benches = [Bench(name, costs, replayed) for name, costs in tables.items()]
    kinds = sorted({t.kind for t in replayed})
    text = "\n\n".join((
        "\n".join(f"- {line}" for line in machine.describe()),
        f"{sum(map(len, replayed))} rounds of {len(replayed)} answers of the demo pair, in random order; × plain:",
        speeds(benches),
        "Auto against plain decoding, each kind of text alone:",
        by_kind(benches, kinds, lambda b, kind: b.fixed(0, kind)),
        "Auto against the best fixed length of each kind:",
        by_kind(benches, kinds, lambda b, kind: b.best(kind)),
        "Text by text against plain, one auto reading all in random order; many are much shorter than 128 tokens:",
        slow(benches),
        "Calibration, fitted to one half of the texts, judged by the other:",
        calibrated(tuple(texts)),
    ))  # fmt: skip
    print(text)
    if options.markdown:
        options.markdown.write_text(f"# Replay\n\n{text}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
