"""Trials as tables for people, and as data for programs."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from dspark_local.bench.figures import geometric_mean
from dspark_local.bench.tables import milliseconds, table
from dspark_local.bench.trials import AUTO, PLAIN, Trials
from dspark_local.types import RoundTimes, Stats, Why

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from dspark_local.bench.answers import Answer

_PARTS = ("draft", "inject", "verify")
ROUNDS = (
    "Rounds (ms a round; τ counts the target's own token; host: all that no decode took; parked: without drafts; "
    "forks: answers that differ from the plain ones by a near-tie):"
)


def markdown(trials: Trials) -> str:
    """Speed by kind of prompt, by the clock and by replay; then what the rounds were made of."""
    n, loops = len(trials.prompts), len(trials.looping)
    counted = [f"{n - loops} of {n} prompts count; the answers to the others loop."] if loops else []
    return "\n\n".join((
        *counted,
        "Speed against plain decoding by the clock, geometric mean [95 % confidence interval]:",
        _by_kind(trials, lambda policy, kind: _with_spread(trials.speed(policy, kind), trials.spread(policy, kind))),
        "The same by replaying the recorded rounds on the cost table that was measured:",
        _by_kind(trials, lambda policy, kind: _times(trials.replayed_speed(policy, kind))),
        ROUNDS,
        _rounds(trials),
        "Accepted by position, share of the drafts verified there:",
        _positions(trials),
    ))  # fmt: skip


def sentence(trials: Trials) -> str:
    """What it comes to, in one."""
    name = AUTO if AUTO in trials.policies else max(trials.policies, key=trials.speed)
    low, high = trials.spread(name)
    fixed = [p for p in trials.policies if p.startswith("fixed:")]
    best = max(fixed, key=trials.speed, default=None)
    beside = f"; the best fixed length, {best}, {trials.speed(best):.2f} ×" if best else ""
    spread = "" if math.isnan(low) else f" (95 % of {low:.2f} to {high:.2f})"
    return f"{name}: {trials.speed(name):.2f} × plain decoding{spread} over {len(trials.prompts)} prompts{beside}."


def data(trials: Trials) -> dict[str, Any]:
    """Everything, answer by answer."""
    return {
        "policies": {
            name: {
                "speed": trials.speed(name),
                "interval": trials.spread(name),
                "replayed": trials.replayed_speed(name),
                "forks": trials.forks(name),
            }
            for name in trials.policies
        },
        "answers": [
            {
                **trials.prompts[i].model_dump(),
                "policy": name,
                "trial": trial,
                "tokens": len(said.finish.tokens),
                "seconds": said.seconds,
                "tokens_per_second": said.rate,
                "accepted_length": said.stats.accepted_length,
                "mean_width": said.stats.mean_width,
                "draft_n": said.stats.draft_n,
                "draft_n_accepted": said.stats.draft_n_accepted,
                "accepted_per_position": said.stats.accepted_per_position,
                "seconds_by_part": asdict(said.stats.times),
            }
            for name, prompts in trials.answers.items()
            for i, answers in enumerate(prompts)
            for trial, said in enumerate(answers)
        ],
    }


def _by_kind(trials: Trials, cell: Any) -> str:  # noqa: ANN401 - (policy, kind) → text
    kinds = [kind for kind in trials.kinds if trials.of_kind(kind)]
    rows = [(kind or "all", *(cell(name, kind) for name in trials.policies)) for kind in (*kinds, None)]
    return table(("", *trials.policies), rows)


def _rounds(trials: Trials) -> str:
    head = ("policy", "tok/s", "τ", "width", "drafts accepted", *_PARTS, "host", "host %", "parked", "forks")
    return table(head, [_row(trials, name) for name in (PLAIN, *trials.policies)])


def _row(trials: Trials, name: str) -> tuple[str, ...]:
    answers = _all(trials, name)
    stats = [said.stats for said in answers]
    rounds = sum(s.rounds for s in stats)
    times = sum((s.times for s in stats), RoundTimes())
    drafted, accepted = sum(s.draft_n for s in stats), sum(s.draft_n_accepted for s in stats)
    host = sum(said.host for said in answers)
    idle = sum(not r.drafted and r.why is not Why.PROMPT for said in answers for r in said.rounds)
    return (
        name,
        f"{geometric_mean(said.rate for said in answers):.1f}",
        f"{sum(s.predicted_n - s.first_n for s in stats) / rounds:.2f}",
        f"{sum(s.widths for s in stats) / rounds:.1f}",
        f"{100 * accepted / drafted:.0f} %" if drafted else "",
        *(milliseconds(getattr(times, part) / rounds) for part in _PARTS),
        milliseconds(host / rounds),
        f"{100 * host / sum(said.seconds for said in answers):.1f}",
        f"{100 * idle / rounds:.0f} %",
        str(trials.forks(name)) if name != PLAIN else "",
    )


def _positions(trials: Trials) -> str:
    names = [name for name in trials.policies if any(said.stats.draft_n for said in _all(trials, name))]
    by_name = {name: _accepted([said.stats for said in _all(trials, name)]) for name in names}
    most = max((len(shares) for shares in by_name.values()), default=0)
    rows = [(n, *(f"{s:.2f}" for s in shares), *[""] * (most - len(shares))) for n, shares in by_name.items()]
    return table(("policy", *(str(k) for k in range(1, most + 1))), rows)


def _accepted(stats: Iterable[Stats]) -> list[float]:
    """Share accepted by position, over several answers."""
    admitted: list[int] = []
    accepted: list[int] = []
    for s in stats:
        for sums, counts in ((admitted, s.admitted_at), (accepted, s.accepted_at)):
            sums.extend([0] * (len(counts) - len(sums)))
            for k, count in enumerate(counts):
                sums[k] += count
    return [a / n for a, n in zip(accepted, admitted, strict=True)]


def _all(trials: Trials, name: str) -> list[Answer]:
    return [said for i in trials.of_kind(None) for said in trials.answers[name][i]]


def _times(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.2f}"


def _with_spread(value: float, spread: Sequence[float]) -> str:
    low, high = spread
    return _times(value) if math.isnan(low) else f"{value:.2f} [{low:.2f}, {high:.2f}]"
