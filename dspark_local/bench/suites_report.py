"""Tasks as tables and a plot for people, and as data for programs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from dspark_local.bench.plots import bars
from dspark_local.bench.tables import table

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dspark_local.bench.suites import Task


def markdown(tasks: Sequence[Task]) -> str:
    """Accepted length by task and temperature; acceptance by position; confidence; speed, if it was measured."""
    parts = [
        *(_left_out(t) for t in tasks if len(t.counted) < len(t.answers)),
        f"Accepted length (tokens a round, the target's own included; blocks of {tasks[0].gamma}):",
        _by_task(tasks, lambda t: t.accepted_length),
        "Accepted by position, share of the rounds:",
        *(_positions(t) for t in tasks),
        "Confidence: survival as the drafter states it, against what was accepted:",
        _confidence(tasks),
    ]
    if any(t.speeds for t in tasks):
        parts += ["Speed against plain decoding, by the clock, geometric mean:", _by_task(tasks, lambda t: t.speed)]
    return "\n\n".join(parts)


def data(tasks: Sequence[Task]) -> list[dict[str, Any]]:
    """Every figure of every task."""
    return [
        {
            "task": t.name,
            "temperature": t.temperature,
            "answers": len(t.answers),
            "counted": len(t.counted),
            "rounds": t.rounds,
            "accepted_length": _number(t.accepted_length),
            "accepted_by_position": [share for _, share in t.by_position],
            "accepted_given_those_before": [share for share, _ in t.by_position],
            "confidence": t.confidence
            and {"ece": t.confidence.ece, "brier": t.confidence.brier, "auroc": _number(t.confidence.auroc)},
            "speed": _number(t.speed),
        }
        for t in tasks
    ]


def _left_out(task: Task) -> str:
    looping, n = len(task.answers) - len(task.counted), len(task.answers)
    return f"{task.name} at T = {task.temperature:g}: {looping} of {n} answers loop and do not count."


def _by_task(tasks: Sequence[Task], figure: Callable[[Task], float]) -> str:
    names, temperatures = list(dict.fromkeys(t.name for t in tasks)), list(dict.fromkeys(t.temperature for t in tasks))
    found = {(t.name, t.temperature): figure(t) for t in tasks}
    rows = [(name, *(_shown(found[name, t]) for t in temperatures)) for name in names]
    if len(names) > 1:
        means = [[found[name, t] for name in names if not math.isnan(found[name, t])] for t in temperatures]
        rows.append(("mean", *(_shown(sum(m) / len(m) if m else math.nan) for m in means)))
    return table(("task", *(f"T = {t:g}" for t in temperatures)), rows)


def _positions(task: Task) -> str:
    rows = [
        (str(k), share, f"{share:.3f}, {given:.3f} given those before")
        for k, (given, share) in enumerate(task.by_position, 1)
    ]
    return f"{task.name}, T = {task.temperature:g}:\n{bars(rows, most=1.0)}"


def _confidence(tasks: Sequence[Task]) -> str:
    rows = []
    for t in tasks:
        found = t.confidence
        figures = (found.ece, found.brier, found.auroc) if found else (math.nan,) * 3
        rows.append((f"{t.name}, T = {t.temperature:g}", *(f"{x:.3f}" for x in figures)))
    return table(("task", "ECE", "Brier", "AUROC"), rows)


def _shown(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.2f}"


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value
