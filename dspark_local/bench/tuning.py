"""A thorough look at a pair on this machine: what decodes cost, and how far confidence can be trusted."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dspark_local.bench.record import record
from dspark_local.errors import UsageError
from dspark_local.scheduling.calibration import Calibration
from dspark_local.scheduling.policies import named
from dspark_local.scheduling.reliability import Reliability, by_position
from dspark_local.scheduling.scheduler import Auto
from dspark_local.scheduling.simulate import Trace, replay

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dspark_local.bench.prompts import Prompt
    from dspark_local.runtime import Runtime
    from dspark_local.scheduling.cost import CostTable

TEMPERATURES = (0.0, 0.7, 1.0)


@dataclass(frozen=True, slots=True)
class Trust:
    """Reliability of survival by position at one temperature, before and after calibration, on rounds not fitted to."""

    temperature: float
    raw: list[Reliability]
    calibrated: list[Reliability]


@dataclass(frozen=True, slots=True)
class Tuning:
    """What was found: costs, trust, and the speed to expect against plain decoding, by replay."""

    costs: CostTable
    trust: list[Trust]
    speeds: dict[str, float]


def tune(
    runtime: Runtime,
    prompts: Sequence[Prompt],
    *,
    max_tokens: int,
    progress: Callable[[str, float], None] = lambda _stage, _share: None,
) -> Tuning:
    """Record the prompts at each temperature, fit the runtime's own calibration, and replay.

    Raises UsageError when the runtime has no drafter, or one without confidences, or too few prompts to judge by.
    """
    auto = runtime.policy
    if not isinstance(auto, Auto):
        raise UsageError("there is nothing to tune: this model runs without a drafter")
    if len(prompts) < 2:  # noqa: PLR2004 - half of them fit, half judge
        raise UsageError("tuning wants at least two prompts: some to fit, others to judge by")
    assert auto.calibration is not None
    everything: list[Trace] = []
    trusted = []
    for n, temperature in enumerate(TEMPERATURES):
        traces = []
        for i, prompt in enumerate(prompts):
            progress(f"recording at T = {temperature:g}", (n + i / len(prompts)) / len(TEMPERATURES))
            asked = prompt.model_copy(update={"temperature": temperature})
            traces.append(record(runtime, asked, seed=i, max_tokens=max_tokens))
        known = [trace for trace in traces if trace is not None]
        fitted, judged = known[::2], known[1::2]
        if not judged:
            raise UsageError("nothing to calibrate: the drafter has no confidence head, or the answers end at once")
        trusted.append(trust(auto.gamma, fitted, judged, temperature))
        _fit(auto.calibration, known, temperature)
        everything += known
    progress("replaying", 1.0)
    return Tuning(auto.cost, trusted, _speeds(auto, everything))


def trust(gamma: int, fitted: Sequence[Trace], judged: Sequence[Trace], temperature: float) -> Trust:
    """Calibrate by some rounds, and judge by others; all of them at one temperature."""
    after = Calibration(gamma)
    _fit(after, fitted, temperature)
    confidences = np.concatenate([t.confidences for t in judged])
    accepted = np.concatenate([t.accepted for t in judged])
    calibrated = np.array([after.survival(row, temperature) for row in confidences.tolist()])
    whole = np.full(len(accepted), gamma)
    return Trust(
        temperature, by_position(confidences.cumprod(axis=1), whole, accepted), by_position(calibrated, whole, accepted)
    )


def _fit(calibration: Calibration, traces: Sequence[Trace], temperature: float) -> None:
    confidences = np.concatenate([t.confidences for t in traces])
    whole = np.full(len(confidences), confidences.shape[1])
    calibration.fit(confidences, whole, np.concatenate([t.accepted for t in traces]), temperature)


def _speeds(auto: Auto, traces: Sequence[Trace]) -> dict[str, float]:
    """Of auto and of every fixed length, against plain, on the measured costs."""

    def rate(name: str) -> float:
        policy = named(name, deepcopy(auto.cost), gamma=auto.gamma, calibration=deepcopy(auto.calibration))
        return replay(traces, deepcopy(auto.cost), policy).rate

    plain = rate("plain")
    return {name: rate(name) / plain for name in ("auto", *(f"fixed:{g}" for g in range(1, auto.gamma + 1)))}
