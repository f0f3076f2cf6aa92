"""Contestants in turns, and what their rates say about each other."""

from __future__ import annotations

import math
import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from measure import progress

from dspark_local.bench.figures import geometric_mean, interval

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

Name = TypeVar("Name")
Task = TypeVar("Task")
Made = TypeVar("Made")
Rates = list[list[float]]  # [trial][task]


@dataclass(frozen=True, slots=True)
class Crowd:
    """The answers to requests that came at once, in seconds from the first request to the last answer's end."""

    tokens: tuple[tuple[int, ...], ...]
    seconds: float

    @property
    def rate(self) -> float:
        """Tokens per second, all requests together, prefill included."""
        return sum(map(len, self.tokens)) / self.seconds


@dataclass(frozen=True, slots=True)
class Ratio:
    """How many times as fast: the geometric mean over tasks of medians over trials.

    `low` to `high` is the 95 % confidence interval of the mean over both, NaN of a single answer.
    """

    median: float
    low: float
    high: float

    @property
    def shown(self) -> tuple[str, str]:
        """Two cells."""
        return f"{self.median:.3g}x", "–" if math.isnan(self.low) else f"{self.low:.3g} – {self.high:.3g}"


def ratio(ours: Rates, theirs: Rates) -> Ratio:
    """Of rates in the same trials of the same tasks."""
    pairs = [[a / b for a, b in zip(x, y, strict=True)] for x, y in zip(ours, theirs, strict=True)]
    return Ratio(over_tasks(pairs), *interval([each for trial in pairs for each in trial]))


def over_tasks(values: Rates) -> float:
    """Geometric mean over tasks of medians over trials."""
    return geometric_mean(statistics.median(of_task) for of_task in zip(*values, strict=True))


def take_turns(
    contestants: Mapping[Name, Callable[[Task], Made]], tasks: Sequence[Task], trials: int, what: str
) -> dict[Name, list[list[Made]]]:
    """Every contestant at every task once a trial, never two at once; what each made, [trial][task].

    Every other trial goes backwards, so that drift cancels.
    """
    turns = [(name, i) for i in range(len(tasks)) for name in contestants]
    made: dict[Name, list[list[Made]]] = {name: [] for name in contestants}
    began, n, of = time.perf_counter(), 0, trials * len(turns)
    for trial in range(trials):
        results: dict[tuple[Name, int], Made] = {}
        for name, i in turns[:: -1 if trial % 2 else 1]:
            results[name, i] = contestants[name](tasks[i])
            n += 1
            left = (time.perf_counter() - began) / n * (of - n)
            if n % len(contestants) == 0:
                progress(f"{what}: {n} of {of}, {left:.0f} s left", last=n == of)
        for name in contestants:
            made[name].append([results[name, i] for i in range(len(tasks))])
    return made
