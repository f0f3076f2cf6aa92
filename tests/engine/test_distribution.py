"""What the engine writes follows the target's logits and the samplers, whatever is drafted and admitted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from dspark_local.backend.base import Drafted, Rebased
from dspark_local.backend.scripted import ScriptedDraft, ScriptedTarget
from dspark_local.drafters.dspark import DSpark
from dspark_local.drafters.none import NoDrafter
from dspark_local.engine import Engine
from dspark_local.sampling.rule import Sampler
from dspark_local.scheduling.policy import Fixed
from dspark_local.types import SamplingParams
from tests.engine.harness import run
from tests.sampling.chi import fits

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dspark_local.backend.base import Block
    from dspark_local.backend.candidates import Candidates

N = 8
TARGET = np.log(np.array([0.3, 0.2, 0.15, 0.12, 0.1, 0.08, 0.04, 0.01], np.float32))
DRAFT = np.log(np.array([0.1, 0.25, 0.3, 0.05, 0.1, 0.1, 0.05, 0.05], np.float32))
LENGTH, SLOTS = 250, 8
DRAWS = 100_000

# Every combination that changes the set, and what it leaves of the target's probabilities at T = 1, by hand.
COMBINATIONS: list[tuple[dict[str, Any], list[int]]] = [
    ({}, [0, 1, 2, 3, 4, 5, 6, 7]),
    ({"top_k": 3}, [0, 1, 2]),
    ({"top_p": 0.7}, [0, 1, 2, 3]),
    ({"min_p": 0.3}, [0, 1, 2, 3, 4]),
    ({"typical_p": 0.5}, [1, 2, 3, 4]),  # entropy 1.84 nats: surprises 1.61, 1.90, 2.12, 2.30 are the nearest
    ({"top_k": 6, "top_p": 0.8}, [0, 1, 2, 3]),
    ({"top_k": 4, "min_p": 0.45}, [0, 1, 2]),
    ({"logit_bias": ((0, -np.inf),), "top_k": 2}, [1, 2]),
]


def exact(kept: list[int], temperature: float = 1.0) -> np.ndarray:
    weights = np.zeros(N)
    weights[kept] = np.exp(TARGET[kept].astype(float) / temperature)
    return weights / weights.sum()


def counted(engine: Engine, params: dict[str, Any], draws: int) -> np.ndarray:
    """How often each token was written, over many requests with seeds of their own."""
    counts = np.zeros(N, int)
    for seed in range(0, draws // LENGTH, SLOTS):
        sequences = [
            engine.add([0], Sampler.of(SamplingParams(seed=seed + slot, **params)), max_tokens=LENGTH)
            for slot in range(SLOTS)
        ]
        run(engine)
        for sequence in sequences:
            counts += np.bincount(sequence.tokens[1:], minlength=N)
    return counts


def engine_of(draft: ScriptedDraft | None = None, head: Any = None, policy: Any = None) -> Engine:
    target = ScriptedTarget(lambda _: TARGET, N, n_slots=SLOTS, n_ctx=LENGTH + 16, taps=draft is not None)
    drafter = NoDrafter() if draft is None else DSpark(draft, head)
    return Engine(target, drafter, policy or Fixed(3), is_end=lambda _: False)


@pytest.mark.slow
@pytest.mark.parametrize("drafted", [False, True])
@pytest.mark.parametrize(("params", "kept"), COMBINATIONS)
def test_draws_follow_the_exact_probabilities(params: dict[str, Any], kept: list[int], drafted: bool) -> None:
    """Chi-square over 10⁵ tokens, with a drafter that errs and without."""
    draft = ScriptedDraft(lambda _: DRAFT, N, n_slots=SLOTS) if drafted else None
    counts = counted(engine_of(draft), {"temperature": 1.0, **params}, DRAWS)
    assert counts.sum() >= DRAWS
    assert fits(counts, exact(kept))


def test_a_combination_follows_the_exact_probabilities() -> None:
    """One of those above at another temperature, drafted; fewer draws, for every day."""
    draft = ScriptedDraft(lambda _: DRAFT, N, n_slots=SLOTS)
    counts = counted(engine_of(draft), {"temperature": 0.7, "top_k": 6, "top_p": 0.95}, 16_000)
    assert fits(counts, exact([0, 1, 2, 3, 4, 5], temperature=0.7))


class Telling(ScriptedDraft):
    """Its confidence in a token tells which token came before: high behind an even one."""

    def draft(self, blocks: Sequence[Block], gamma: int) -> list[Drafted]:
        rows = super().draft(blocks, gamma)
        chained = [int(np.argmax(DRAFT))] * gamma
        return [Drafted(r.logits, np.array([confidence(t) for t in [0, *chained[1:]]], np.float32)) for r in rows]


@dataclass
class TellingHead:
    """Re-bases the confidence on the token picked."""

    def rebase(self, row: Candidates, confidence_: float, chained: int, previous: int) -> Rebased:
        del confidence_, chained
        return Rebased(row.logits, confidence(previous))


def confidence(previous: int) -> float:
    return 0.9 if previous % 2 == 0 else 0.1


@dataclass
class Adversary(Fixed):
    """Admits a token by the confidence of the next one: if that is high, or if it is low."""

    high: bool = True

    def admit(self, confidences: Sequence[Sequence[float]], drafted: Sequence[int]) -> list[int]:
        del drafted
        return [admitted(given, high=self.high) for given in confidences]


def admitted(confidences: Sequence[float], *, high: bool) -> int:
    n = 0
    while n + 1 < len(confidences) and (confidences[n + 1] > 0.5) == high:
        n += 1
    return n


@pytest.mark.parametrize("draws", [20_000, pytest.param(DRAWS, marks=pytest.mark.slow)])
@pytest.mark.parametrize("high", [True, False])
def test_no_schedule_can_bias_the_draws(high: bool, draws: int) -> None:
    """A schedule that looks at the next token's confidence [P App. A]: the tokens fit the target all the same.

    Rejection sampling without early stopping does not, under the same schedule: the test can tell.
    """
    draft = Telling(lambda _: DRAFT, N, n_slots=SLOTS)
    engine = engine_of(draft, TellingHead(), Adversary(3, high=high))
    counts = counted(engine, {"temperature": 1.0}, draws)
    assert counts.sum() >= draws
    assert fits(counts, exact(list(range(N))))
    assert not fits(rejection_sampled(draws, high=high), exact(list(range(N))))


def rejection_sampled(draws: int, *, high: bool) -> np.ndarray:
    """Tokens that speculative sampling writes when each round admits what the adversary says."""
    rng = np.random.default_rng(1)
    p, q = np.exp(TARGET.astype(float)), np.exp(DRAFT.astype(float))
    p, q = p / p.sum(), q / q.sum()
    residual = np.maximum(p - q, 0) / np.maximum(p - q, 0).sum()
    counts = np.zeros(N, int)
    while counts.sum() < draws:
        block = rng.choice(N, 3, p=q)
        for token in block[: admitted([0.9, *map(confidence, block[:-1])], high=high)]:
            if rng.random() >= p[token] / q[token]:
                counts[rng.choice(N, p=residual)] += 1
                break
            counts[token] += 1
        else:
            counts[rng.choice(N, p=p)] += 1
    return counts
