"""Policies to compare with: the paper's Algorithm 1, a threshold, hindsight; and every policy by its name."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dspark_local.errors import UsageError
from dspark_local.scheduling.arbitration import Arbiter
from dspark_local.scheduling.calibration import Calibration
from dspark_local.scheduling.policy import Fixed, Plan, Policy, everyone

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dspark_local.scheduling.cost import CostTable
    from dspark_local.scheduling.forecast import Forecast
    from dspark_local.scheduling.policy import Request
    from dspark_local.types import Round


@dataclass(slots=True)
class Paper:
    """Algorithm 1 of the paper.

    A whole block always; then the drafts of all requests by survival, one by one, while tokens per second of this
    round's decode rise. It stops at the first that does not pay, as rejection sampling needs.
    """

    cost: CostTable
    gamma: int = 7
    calibration: Calibration | None = None
    _requests: Sequence[Request] = ()
    _plan: Plan = field(default_factory=Plan)

    def plan(self, requests: Sequence[Request]) -> Plan:
        """The whole block, for all."""
        self._requests, self._plan = requests, everyone(requests, self.gamma)
        return self._plan

    def admit(self, confidences: Sequence[Sequence[float]], drafted: Sequence[int]) -> list[int]:
        """The longest pool whose every draft raised the round's τ·SPS(B)."""
        if not drafted:
            return []
        known = {r.slot: r for r in self._requests}
        drafting = [known[slot] for slot in self._plan.slots]
        calibration = self.calibration or Calibration(self.gamma)
        pool = [
            (share, i)
            for i, (r, known, most) in enumerate(zip(drafting, confidences, drafted, strict=True))
            for share in calibration.survival(known, r.temperature)[: min(r.limit, most)]
        ]
        pool.sort(key=lambda draft: draft[0], reverse=True)
        curve = self.cost.at(sum(r.depth for r in self._requests))
        batch = tokens = float(len(self._requests))
        best, admitted = tokens / curve(int(batch)), [0] * len(drafted)
        for share, i in pool:
            tokens += share
            batch += 1
            if tokens / curve(int(batch)) <= best:
                break
            best = tokens / curve(int(batch))
            admitted[i] += 1
        return admitted

    def observe(self, rounds: Sequence[Round]) -> None:
        """Keep the costs true; nothing else is learned."""
        if len(rounds) != len(self._requests) or not rounds:
            return
        self.cost.learn(
            rounds[0].times,
            rows=sum(r.width for r in rounds),
            drafted=sum(r.drafted for r in rounds),
            pending=sum(q.pending for q, r in zip(self._requests, rounds, strict=True) if r.drafted),
            depth=sum(q.depth for q in self._requests),
        )


@dataclass(slots=True)
class Threshold:
    """A whole block always, cut before the first confidence below `least`, as llama.cpp's `--draft-p-min` does."""

    least: float
    gamma: int = 7

    def plan(self, requests: Sequence[Request]) -> Plan:
        """The whole block, for all."""
        return everyone(requests, self.gamma)

    def admit(self, confidences: Sequence[Sequence[float]], drafted: Sequence[int]) -> list[int]:
        """The drafts before the first doubtful one; all where the drafter knows no confidence."""
        return [
            next((k for k, c in enumerate(known[:n]) if not c >= self.least), n)
            for known, n in zip(confidences, drafted, strict=True)
        ]

    def observe(self, rounds: Sequence[Round]) -> None:
        """Nothing to learn."""


@dataclass(slots=True)
class Oracle:
    """Does as it was told, knowing the acceptances beforehand: `gammas` by depth, for one request at a time.

    Headroom, not a policy: simulate.hindsight finds the γ.
    """

    gammas: Mapping[int, int]

    def plan(self, requests: Sequence[Request]) -> Plan:
        """What hindsight says at this depth; plain where it says nothing."""
        assert len(requests) == 1
        return everyone(requests, self.gammas.get(requests[0].depth, 0))

    def admit(self, confidences: Sequence[Sequence[float]], drafted: Sequence[int]) -> list[int]:  # noqa: ARG002 - it knows better
        """All that was drafted."""
        return list(drafted)

    def observe(self, rounds: Sequence[Round]) -> None:
        """Nothing to learn."""


def named(
    name: str,
    cost: CostTable,
    *,
    gamma: int,
    calibration: Calibration | None = None,
    forecast: Forecast | None = None,
    fixed_rows: int | None = None,
) -> Policy:
    """The policy called `plain`, `fixed:N`, `threshold:P`, `paper` or `auto`; the last two learn into what they get.

    `forecast` and `fixed_rows` as Auto has them. Raises as `check_name` does, and UsageError for N above γ.
    """
    kind, value = check_name(name)
    if kind == "auto":
        return Arbiter(cost, gamma, calibration, forecast, fixed_rows)
    if kind == "paper":
        return Paper(cost, gamma, calibration)
    if kind == "threshold":
        return Threshold(value, gamma)
    if value > gamma:
        raise UsageError(f"{name} drafts more than a whole block of this drafter: fixed:{gamma} is the most")
    return Fixed(int(value))


def check_name(name: str) -> tuple[str, float]:
    """Kind and value of a policy's name. Raises UsageError for one that there is not, P outside 0…1 or N below 0."""
    kind, _, text = name.partition(":")
    value = _number(text)
    if kind in {"auto", "paper", "plain"} and not text:
        return kind, 0
    if (kind == "fixed" and text.isdecimal()) or (kind == "threshold" and 0 <= value <= 1):
        return kind, value
    raise UsageError(f"no policy is called {name!r}; give auto, paper, plain, fixed:N, or threshold:P with P up to 1")


def reckons(name: str) -> bool:
    """Whether the policy of that name looks at costs."""
    return name in {"auto", "paper"}


def _number(value: str) -> float:
    try:
        return float(value)
    except ValueError:
        return math.nan
