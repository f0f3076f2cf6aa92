"""The first look at a machine: a few decodes, most telling first, within a few seconds."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from dspark_local.scheduling.cost import CostTable
    from dspark_local.scheduling.curve import Curve

    Run = Callable[[int], float]


class Timed(Protocol):
    """Runs a batch of so many rows, and says what seconds it took."""

    def decode(self, rows: int) -> float:
        """A target decode."""
        ...

    def draft(self, rows: int) -> float:
        """A draft."""
        ...

    def inject(self, rows: int) -> float:
        """An injection."""
        ...


_ROUNDS = 3  # passes over the row counts, of which medians count: apart in time, so that one disturbance hits one


def measure(
    table: CostTable,
    timed: Timed,
    *,
    gamma: int,
    slots: int = 1,
    longest: int = 0,
    seconds: float = 5.0,
    decodes: int = 20,
    progress: Callable[[float], None] | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> None:
    """Time the parts by `timed`, and settle the table on the medians.

    Every row count is timed in turn, in order of what it tells, three times if `seconds` last or `decodes` do. What
    was not reached stays as the curve carries it. `progress` hears a share from 0 to 1.
    """
    jobs = list(_jobs(table, timed, gamma=gamma, slots=slots, longest=longest))
    times: list[list[float]] = [[] for _ in jobs]
    began, whole = clock(), _ROUNDS * len(jobs)
    for done in range(whole):
        spent = clock() - began
        if done >= decodes and spent >= seconds:
            break
        if progress:
            progress(max(done / whole, min(1.0, done / decodes, spent / seconds)))
        _, rows, run = jobs[done % len(jobs)]
        times[done % len(jobs)].append(run(rows))
    if progress:
        progress(1.0)
    for curve in (table.at(0), table.draft, table.inject):
        curve.settle(
            {job[1]: _middle(timed) for job, timed in zip(jobs, times, strict=True) if job[0] is curve and timed}
        )


def _middle(times: list[float]) -> float:
    return sorted(times)[(len(times) - 1) // 2]


def _jobs(
    table: CostTable, timed: Timed, *, gamma: int, slots: int, longest: int
) -> Iterator[tuple[Curve, int, Run]]:
    """A plain token first; then γ = 3 and the whole block; what lies between; longer drafts; then more sequences."""
    target, decode, draft, inject = table.at(0), timed.decode, timed.draft, timed.inject
    yield target, 1, decode
    yield table.inject, 1, inject
    for g in sorted(range(1, gamma + 1), key=lambda g: (g not in {3, gamma}, g)):
        yield target, 1 + g, decode
        if g in {2, 3, gamma}:
            yield table.draft, g, draft
    yield from ((target, 1 + n, decode) for n in (longest, (gamma + longest) // 2) if n > gamma)
    n = 2
    while n <= slots:
        yield from ((target, n * w, decode) for w in (1, 2, 4, gamma + 1) if n * w > gamma + 1)
        yield from ((table.draft, n * g, draft) for g in (3, gamma) if n * g > gamma)
        n *= 2
