"""Policies to compare with: the paper's Algorithm 1, a threshold, hindsight; and every policy by its name."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dspark_local.errors import UsageError
from dspark_local.scheduling.calibration import Calibration
from dspark_local.scheduling.policy import Fixed, Plan, Policy, everyone
from dspark_local.scheduling.scheduler import Auto

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dspark_local.scheduling.cost import CostTable
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


def named(name: str, cost: CostTable, *, gamma: int, calibration: Calibration | None = None) -> Policy:
    """The policy called `plain`, `fixed:N`, `threshold:P`, `paper` or `auto`; the last two learn into `cost`.

    Raises UsageError for any other name, N outside 0…γ or P outside 0…1.
    """
    kind, _, value = name.partition(":")
    if not value and kind in {"plain", "paper", "auto"}:
        if kind == "plain":
            return Fixed(0)
        return (Auto if kind == "auto" else Paper)(cost, gamma, calibration)
    if kind == "fixed" and value.isdecimal() and int(value) <= gamma:
        return Fixed(int(value))
    if kind == "threshold" and 0 <= _number(value) <= 1:
        return Threshold(_number(value), gamma)
    raise UsageError(
        f"no policy is called {name!r}; give auto, paper, plain, fixed:N with N up to {gamma}, "
        "or threshold:P with P from 0 to 1"
    )


def _number(value: str) -> float:
    try:
        return float(value)
    except ValueError:
        return math.nan
