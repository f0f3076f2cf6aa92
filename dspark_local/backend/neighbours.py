"""How many cores other programs leave free.

A decode's threads wait for one another many times a token. When another program holds one of their cores, all of them
wait for it: one thread fewer is then faster than all (benchmarks/RESULTS.md).
"""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass

import psutil

WINDOW = 0.5  # seconds that a reading covers: a shorter burst of others is no reason to step aside
# How often an OpenMP thread looks whether the others are done before it sleeps, hundreds of times a token. One that
# sleeps wakes late, on virtual machines most of all; one that spins holds up whoever has to share its core, which is
# why there are fewer where others keep cores busy (docs/log.md).
SPINS = 100_000


@dataclass(frozen=True, slots=True)
class Reading:
    """Seconds so far: by the clock, of all programs on our cores, and of this process alone."""

    clock: float
    all: float
    own: float


def left(before: Reading, now: Reading, cores: int) -> int:
    """Cores, at least one, that others left free between two readings."""
    others = (now.all - before.all) - (now.own - before.own)
    return min(cores, max(1, round(cores - others / (now.clock - before.clock))))


class Neighbours:
    """Watches the other programs of the machine, by two readings at least WINDOW apart. For any thread."""

    def __init__(self) -> None:
        self._allowed = cores()
        self._read = _read(self._allowed)
        self._free = len(self._allowed)
        self._decoded = self._read.clock
        self._lock = threading.Lock()

    def free(self) -> int:
        """Cores that others left free beside our latest decodes; what they did while none ran is past."""
        with self._lock:
            clock = time.perf_counter()
            if clock - self._decoded >= WINDOW:
                self._read = _read(self._allowed)
            elif clock - self._read.clock >= WINDOW:
                now = _read(self._allowed)
                self._free = left(self._read, now, len(self._allowed))
                self._read = now
            return self._free

    def decoded(self) -> None:
        """A decode has ended now, however long it took."""
        self._decoded = time.perf_counter()


def cores() -> list[int]:
    """Numbers of the logical cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def _read(allowed: list[int]) -> Reading:
    each = psutil.cpu_times(percpu=True)
    spent = sum(each[i].user + each[i].system for i in allowed if i < len(each))
    own = os.times()
    return Reading(time.perf_counter(), spent, own.user + own.system)


NEIGHBOURS = Neighbours()  # of the process: all contexts share what it sees
