"""Replay of recorded or synthetic acceptance on a cost table: what a policy would have made of it."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dspark_local.scheduling.policy import Plan, Request
from dspark_local.types import Round, RoundTimes, Why

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    import numpy as np
    import numpy.typing as npt

    from dspark_local.scheduling.cost import CostTable
    from dspark_local.scheduling.policy import Policy

_WAITING = 512  # rows that a drafter lets wait (drafters.dspark)
_ROOM = 4096  # tokens that a request asks for: where its text ends, nobody knows beforehand


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """One text of n tokens, as a drafter sees it.

    With the anchor at token i, `accepted[i]` drafts of a whole block would be accepted; its confidences are
    `confidences[i]` [γ]. `depth` is the length of the prompt before it.
    """

    accepted: npt.NDArray[np.int64]
    confidences: npt.NDArray[np.float64]
    kind: str = ""
    temperature: float = 0.0
    depth: int = 0

    def __len__(self) -> int:
        return len(self.accepted)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a replay came to: `parked` of its `rounds` drafted nothing, `probed` were probes."""

    tokens: int
    seconds: float
    rounds: int
    parked: int
    probed: int

    @property
    def rate(self) -> float:
        """Tokens per second."""
        return self.tokens / self.seconds


@dataclass(slots=True)
class _Running:
    """A text in its slot."""

    slot: int
    trace: Trace
    made: int = 0
    rounds: int = 0
    pending: int = field(init=False)  # what the prompt, or the round before, left for the drafter to take

    def __post_init__(self) -> None:
        self.pending = min(_WAITING, max(1, self.trace.depth))

    def request(self) -> Request:
        return Request(
            self.slot,
            _ROOM - self.made,
            depth=self.trace.depth + self.made,
            rounds=self.rounds,
            pending=self.pending,
            temperature=self.trace.temperature,
        )

    def advance(self, gamma: int, admitted: int, times: RoundTimes) -> Round:
        """One round: the record of it."""
        known = self.trace.confidences[self.made]
        accepted = min(admitted, int(self.trace.accepted[self.made]))
        tokens = min(accepted + 1, len(self.trace) - self.made)
        self.made += tokens
        self.rounds += 1
        self.pending = tokens if gamma else min(_WAITING, self.pending + tokens)
        return Round(
            tokens=(0,) * tokens,
            draft=(0,) * gamma,
            admitted=admitted,
            accepted=accepted,
            confidences=tuple(known[:gamma].tolist()),
            width=1 + admitted,
            times=times,
        )


def replay(
    traces: Iterable[Trace],
    costs: CostTable,
    policy: Policy,
    *,
    slots: int = 1,
    noise: Callable[[], float] = lambda: 1.0,
    drain: bool = True,
) -> Outcome:
    """Make the texts, `slots` at once, each slot taking the next when its own ends, at seconds = noise() · table.

    The drafter takes rows when it drafts next, all in one batch, those of a prompt too. Prefill is left out. `drain`
    False stops when a slot stays empty: as many run at once for every policy, where the last texts would run alone.
    """
    waiting, free = deque(traces), [*range(slots)]
    running: list[_Running] = []
    tokens = rounds = parked = probed = 0
    seconds = 0.0
    while (waiting or running) if drain else (len(waiting) + len(running) >= slots):
        while waiting and free:
            running.append(_Running(free.pop(0), waiting.popleft()))
        requests = [r.request() for r in running]
        plan = policy.plan(requests)
        admitted = _admitted(policy, plan, running)
        times = _times(costs, plan, requests, admitted, noise)
        records = [r.advance(plan.gamma * (r.slot in plan.slots), admitted.get(r.slot, 0), times) for r in running]
        policy.observe(records)
        tokens += sum(len(r.tokens) for r in records)
        seconds += times.total
        rounds += 1
        parked += not plan.gamma
        probed += plan.why is Why.PROBE
        free += [r.slot for r in running if r.made >= len(r.trace)]
        running = [r for r in running if r.made < len(r.trace)]
    return Outcome(tokens, seconds, rounds, parked, probed)


def hindsight(trace: Trace, costs: CostTable) -> tuple[float, dict[int, int]]:
    """The fewest seconds that a text can take when every acceptance is known beforehand, and γ by depth to do so.

    Backwards over the text (dynamic programming): from each token the best γ, all of it verified. Rows that the drafter
    takes are charged to the round that made them, if it drafted.
    """
    whole = trace.confidences.shape[1]
    left = [0.0] * (len(trace) + 1)
    gammas: dict[int, int] = {}
    for at in reversed(range(len(trace))):
        most = min(whole, len(trace) - at - 1)
        choices = []
        for g in range(most + 1):
            made = 1 + min(g, int(trace.accepted[at]))
            depth = trace.depth + at
            seconds = costs.seconds(rows=1 + g, drafted=g, pending=made if g else 0, depth=depth)
            choices.append(seconds + left[at + made])
        left[at] = min(choices)
        gammas[trace.depth + at] = choices.index(left[at])
    return left[0], gammas


def _admitted(policy: Policy, plan: Plan, running: Sequence[_Running]) -> dict[int, int]:
    drafting = [r for r in running if r.slot in plan.slots]
    confidences = [r.trace.confidences[r.made, : plan.gamma].tolist() for r in drafting]
    admitted = policy.admit(confidences, [plan.gamma] * len(drafting))
    return {r.slot: n for r, n in zip(drafting, admitted, strict=True)}


def _times(
    costs: CostTable,
    plan: Plan,
    requests: Sequence[Request],
    admitted: dict[int, int],
    noise: Callable[[], float],
) -> RoundTimes:
    drafted = plan.gamma * len(plan.slots)
    rows = len(requests) + sum(admitted.values())
    return RoundTimes(
        inject=noise() * costs.inject(sum(r.pending for r in requests if r.slot in plan.slots)),
        draft=noise() * costs.draft(drafted),
        verify=noise() * costs.at(sum(r.depth for r in requests))(rows),
        host=noise() * costs.host(rows + drafted),
    )
