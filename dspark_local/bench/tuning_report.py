"""What tuning found, as text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dspark_local.bench.plots import bars
from dspark_local.bench.tables import table

if TYPE_CHECKING:
    from dspark_local.bench.tuning import Trust, Tuning
    from dspark_local.scheduling.curve import Curve


def text(found: Tuning) -> str:
    """Cost curves, reliability by temperature, speeds to expect, and one sentence."""
    costs, gamma = found.costs, len(found.costs.draft)
    return "\n\n".join((
        "Target decode by rows, against one row:\n" + _curve(costs.at(0), gamma + 1, costs.at(0)(1)),
        "Draft by length, against one row of the target:\n" + _curve(costs.draft, gamma, costs.at(0)(1)),
        *map(_trusted, found.trust),
        "Speed against plain decoding, by replay of what was recorded:\n"
        + bars([(name, speed, f"{speed:.2f} ×") for name, speed in found.speeds.items()]),
        _sentence(found),
    ))  # fmt: skip


def _curve(curve: Curve, n: int, unit: float) -> str:
    return bars([(str(k), curve(k), f"{1000 * curve(k):.2f} ms  {curve(k) / unit:.2f} ×") for k in range(1, n + 1)])


def _trusted(trust: Trust) -> str:
    head = ("position", "survival", "ECE raw", "ECE", "Brier raw", "Brier", "AUROC")
    rows = []
    for k, (raw, after) in enumerate(zip(trust.raw, trust.calibrated, strict=True), 1):
        happened = sum(did for _, did in after.bins) / len(after.bins)
        figures = (happened, raw.ece, after.ece, raw.brier, after.brier, after.auroc)
        rows.append((str(k), *(f"{x:.3f}" for x in figures)))
    n = trust.calibrated[0].n
    return f"Survival at T = {trust.temperature:g}, {n} blocks that were not fitted to:\n{table(head, rows)}"


def _sentence(found: Tuning) -> str:
    auto = found.speeds["auto"]
    best = max((name for name in found.speeds if name != "auto"), key=lambda name: found.speeds[name])
    if auto < 1.02:  # noqa: PLR2004 - what nobody would feel
        return (
            f"On this machine plain decoding is as fast as drafting text like this ({auto:.2f} ×; the best fixed "
            f"length, {best}, {found.speeds[best]:.2f} ×), so auto will mostly park."
        )
    return (
        f"On this machine expect about {auto:.2f} × plain decoding on text like this; the best fixed length would be "
        f"{best} with {found.speeds[best]:.2f} ×."
    )
