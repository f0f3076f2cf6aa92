"""What a policy would make of drafts that are accepted at given rates, on the costs of this machine: planned only."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING

import numpy as np

from dspark_local.errors import UsageError
from dspark_local.scheduling.policies import check_name, named
from dspark_local.scheduling.simulate import Trace, hindsight, replay

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dspark_local.scheduling.cost import CostTable

_TEXTS, _TOKENS = 4, 512


def rates(text: str, gamma: int) -> list[float]:
    """Conditional acceptance by position from `0.8,0.75,…`; the last goes on to γ. Raises UsageError."""
    try:
        given = [float(part) for part in text.split(",")]
    except ValueError:
        given = []
    if not given or not all(0 <= rate <= 1 for rate in given):
        raise UsageError(f"acceptance rates are numbers from 0 to 1 with commas between, not {text!r}")
    return [*given, *[given[-1]] * gamma][:gamma]


def planned(costs: CostTable, accept: Sequence[float], policies: Sequence[str], *, seed: int = 1) -> dict[str, float]:
    """Speed against plain of each policy, on synthetic texts whose drafts are accepted independently at these rates.

    Confidence says the rates themselves. Raises UsageError for an unknown policy.
    """
    gamma = len(accept)
    rng = np.random.default_rng(seed)
    traces = [_trace(rng, accept) for _ in range(_TEXTS)]
    plain = replay(traces, deepcopy(costs), named("plain", costs, gamma=gamma)).rate
    speeds = {}
    for name in policies:
        if name == "oracle":
            seconds = sum(hindsight(trace, costs)[0] for trace in traces)
            speeds[name] = _TEXTS * _TOKENS / seconds / plain
        else:
            check_name(name)
            policy = named(name, deepcopy(costs), gamma=gamma)
            speeds[name] = replay(traces, deepcopy(costs), policy).rate / plain
    return speeds


def _trace(rng: np.random.Generator, accept: Sequence[float]) -> Trace:
    right = rng.random((_TOKENS, len(accept))) < np.array(accept)
    return Trace(right.cumprod(axis=1).sum(axis=1), np.tile(accept, (_TOKENS, 1)), "synthetic")
