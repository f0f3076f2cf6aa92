"""The same prompts under every policy, in turns, so that a noisy machine disturbs all of them alike."""

from __future__ import annotations

import math
from collections import defaultdict
from copy import deepcopy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dspark_local.bench.answers import Answer, answer
from dspark_local.bench.figures import geometric_mean, interval
from dspark_local.bench.record import record
from dspark_local.errors import UsageError
from dspark_local.scheduling.policies import Oracle, check_name, named
from dspark_local.scheduling.scheduler import Auto
from dspark_local.scheduling.simulate import Trace, hindsight, replay

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dspark_local.bench.prompts import Prompt
    from dspark_local.runtime import Runtime
    from dspark_local.scheduling.policy import Policy

PLAIN, AUTO, ORACLE = "plain", "auto", "oracle"
_WARM = 8  # tokens of the first answer of each runtime, which is not counted


@dataclass(frozen=True, slots=True)
class Trials:
    """Answers to `prompts` by policy: `answers[policy][i]` are those to prompt i, one a trial.

    `replayed[policy]` are seconds a token of recorded rounds on the cost table, prompt by prompt; NaN where nothing was
    recorded. Plain decoding is among the policies, first.
    """

    prompts: tuple[Prompt, ...]
    answers: dict[str, list[list[Answer]]] = field(default_factory=dict)
    replayed: dict[str, list[float]] = field(default_factory=dict)

    @property
    def policies(self) -> list[str]:
        """All but plain."""
        return [name for name in self.answers if name != PLAIN]

    @property
    def kinds(self) -> list[str]:
        """In order."""
        return list(dict.fromkeys(prompt.kind for prompt in self.prompts))

    @property
    def looping(self) -> list[int]:
        """Prompts whose plain answer loops. No figure counts them."""
        return [i for i, answers in enumerate(self.answers[PLAIN]) if answers[0].loops]

    def of_kind(self, kind: str | None) -> list[int]:
        """Prompts of a kind that count; all that do for None."""
        return [i for i, p in enumerate(self.prompts) if kind in (None, p.kind) and i not in self.looping]

    def ratios(self, policy: str, kind: str | None = None) -> list[float]:
        """Speed against the plain answer of the same prompt and trial."""
        pairs = (zip(self.answers[policy][i], self.answers[PLAIN][i], strict=True) for i in self.of_kind(kind))
        return [drafted.rate / plain.rate for pair in pairs for drafted, plain in pair]

    def speed(self, policy: str, kind: str | None = None) -> float:
        """Geometric mean of the ratios."""
        return geometric_mean(self.ratios(policy, kind))

    def spread(self, policy: str, kind: str | None = None) -> tuple[float, float]:
        """95 % confidence interval of the speed."""
        return interval(self.ratios(policy, kind))

    def replayed_speed(self, policy: str, kind: str | None = None) -> float:
        """Speed against plain by replay."""
        plain, drafted = self.replayed[PLAIN], self.replayed[policy]
        return geometric_mean(plain[i] / drafted[i] for i in self.of_kind(kind) if not math.isnan(drafted[i]))

    def forks(self, policy: str) -> int:
        """Answers that are not the plain ones: near-ties that rounding decided otherwise."""
        pairs = zip(self.answers[policy], self.answers[PLAIN], strict=True)
        return sum(a.finish.tokens != b.finish.tokens for x, y in pairs for a, b in zip(x, y, strict=True))


def run(
    runtime: Runtime,
    prompts: Sequence[Prompt],
    policies: Sequence[str],
    *,
    trials: int,
    max_tokens: int,
    seed: int = 1,
    progress: Callable[[str, float], None] = lambda _stage, _share: None,
) -> Trials:
    """Record every prompt, then answer each under every policy, `trials` times in turns.

    `runtime` was loaded with the `auto` policy, whose costs the others start from. Plain answers come from a second
    context without taps. Raises UsageError for an unknown policy, or a runtime without a drafter.
    """
    auto = runtime.policy
    if not isinstance(auto, Auto):
        raise UsageError("there is nothing to compare: this model runs without a drafter")
    names = [PLAIN, *(name for name in dict.fromkeys(policies) if name != PLAIN)]
    for name in names:
        if name != ORACLE:
            check_name(name)
    result = Trials(tuple(prompts))
    traces: list[Trace | None] = []
    for i, prompt in enumerate(prompts):
        progress("recording", i / len(prompts))
        traces.append(record(runtime, prompt, seed=seed, max_tokens=max_tokens))
    start = deepcopy(auto)
    chosen = {name: auto if name == AUTO else _fresh(name, auto) for name in names if name != ORACLE}
    order = [(i, name) for _ in range(trials) for i in range(len(prompts)) for name in names]
    answers: dict[str, list[list[Answer]]] = defaultdict(lambda: [[] for _ in prompts])
    with runtime.plain() as plain:
        for warm in (runtime, plain):
            answer(warm, prompts[0], seed=seed, max_tokens=_WARM)
        try:
            for done, (i, name) in enumerate(order):
                progress("answering", done / len(order))
                asked = plain if name == PLAIN else runtime
                known = traces[i]
                asked.policy = (
                    Oracle(hindsight(known, auto.cost)[1] if known else {}) if name == ORACLE else chosen[name]
                )
                answers[name][i].append(answer(asked, prompts[i], seed=seed, max_tokens=max_tokens))
        finally:
            runtime.policy = auto
    result.answers.update({name: answers[name] for name in names})
    result.replayed.update({name: _replayed(name, traces, start, auto) for name in names})
    return result


def _fresh(name: str, auto: Auto) -> Policy:
    return named(name, deepcopy(auto.cost), gamma=auto.gamma, calibration=deepcopy(auto.calibration))


def _replayed(name: str, traces: Sequence[Trace | None], start: Auto, measured: Auto) -> list[float]:
    """Seconds a token of every trace on the costs as they were measured in the end, learners from where they began."""
    policy = None if name == ORACLE else deepcopy(start) if name == AUTO else _fresh(name, start)
    seconds = []
    for trace in traces:
        if trace is None:
            seconds.append(float("nan"))
        elif policy is None:
            seconds.append(hindsight(trace, measured.cost)[0] / len(trace))
        else:
            seconds.append(1 / replay([trace], deepcopy(measured.cost), policy).rate)
    return seconds
