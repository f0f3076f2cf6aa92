"""Microseconds that the auto policy itself takes in a round (plan, admit and observe), by requests at once.

The aim: 100 for one request, 1000 for 32. All of them draft whole blocks with confidences, which is the dearest
round there is; a parked one is cheaper. Mean, median and 95th percentile over the rounds: every eighth block teaches
calibration and forecast, and pays for those before it.
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np

from dspark_local.bench import machine
from dspark_local.bench.tables import table
from dspark_local.scheduling.policy import Plan, Request
from dspark_local.scheduling.scheduler import Auto
from dspark_local.scheduling.synthetic import Machine
from dspark_local.types import Round, RoundTimes

GAMMA = 7
CHEAP = Machine(((1, 1.0), (2, 1.001), (16, 1.015)), draft=0.01, draft_row=0.0001)  # so that all always draft


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description="Microseconds of scheduling a round, by requests at once.")
    parser.add_argument("--rounds", type=int, default=500, help="default: %(default)s")
    options = parser.parse_args()
    print("\n".join(machine.describe()), end="\n\n")
    rows = []
    for requests in (1, 4, 16, 32):
        micros = sorted(_measure(requests, options.rounds))
        figures = (statistics.fmean(micros), statistics.median(micros), micros[len(micros) * 95 // 100])
        rows.append([f"{requests}", *(f"{x:.0f}" for x in figures)])
    print(table(["requests", "µs a round, mean", "median", "95th percentile"], rows))


def _measure(n: int, rounds: int) -> list[float]:
    rng = np.random.default_rng(1)
    auto = Auto(CHEAP.table(slots=n), GAMMA)
    micros = []
    for at in range(rounds):
        confidences = rng.uniform(0.5, 1.0, size=(n, GAMMA)).tolist()
        accepted = rng.integers(0, GAMMA, size=n).tolist()
        requests = [Request(slot, 1000, depth=at, rounds=at, pending=4) for slot in range(n)]
        began = time.perf_counter()
        plan = auto.plan(requests)
        admitted = auto.admit(confidences[: len(plan.slots)], [plan.gamma] * len(plan.slots))
        chosen = time.perf_counter()
        records = _records(requests, plan, admitted, confidences, accepted)
        resumed = time.perf_counter()
        auto.observe(records)
        micros.append((chosen - began + time.perf_counter() - resumed) * 1e6)
    return micros[rounds // 10 :]


def _records(
    requests: list[Request], plan: Plan, admitted: list[int], confidences: list[list[float]], accepted: list[int]
) -> list[Round]:
    widths = dict(zip(plan.slots, admitted, strict=True))
    rows = len(requests) + sum(admitted)
    times = RoundTimes(
        inject=0.001, draft=0.0003 + 1e-6 * len(widths), verify=0.031 + 3e-5 * rows, host=0.0003 + 3e-5 * rows
    )
    return [
        Round(
            tokens=(0,) * (min(widths.get(r.slot, 0), right) + 1),
            draft=(0,) * plan.gamma if r.slot in widths else (),
            admitted=widths.get(r.slot, 0),
            accepted=min(widths.get(r.slot, 0), right),
            confidences=tuple(said[: plan.gamma]) if r.slot in widths else (),
            width=1 + widths.get(r.slot, 0),
            times=times,
        )
        for r, said, right in zip(requests, confidences, accepted, strict=True)
    ]


if __name__ == "__main__":
    main()
