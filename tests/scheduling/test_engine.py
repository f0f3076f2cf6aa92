"""The auto policy inside the real engine, over the scripted backend."""

from __future__ import annotations

import pytest

from dspark_local.backend.scripted import random_logits
from dspark_local.sampling.rule import Sampler
from dspark_local.scheduling.cost import CostTable
from dspark_local.scheduling.policies import named
from dspark_local.types import SamplingParams
from tests.engine.harness import engine, run, say


@pytest.mark.parametrize("name", ["auto", "paper", "threshold:.5"])
@pytest.mark.parametrize("drafter_seed", [3, 8])
def test_no_policy_changes_the_text(name: str, drafter_seed: int) -> None:
    """Three requests of unlike lengths at once say what each says alone without a drafter, a bad one included."""
    model, draft = random_logits(12, seed=3), random_logits(12, seed=drafter_seed)
    pool = engine(model, draft, n_vocab=12, slots=3)
    pool.policy = named(name, CostTable.guess(slots=3), gamma=7)
    prompts = ([1, 2], [3] * 20, [4])
    sampler = Sampler.of(SamplingParams(seed=1, temperature=0.7))
    together = [pool.add(p, sampler, max_tokens=20 + 9 * i, draft=i != 2) for i, p in enumerate(prompts)]
    run(pool)
    for i, (prompt, sequence) in enumerate(zip(prompts, together, strict=True)):
        alone = say(engine(model, n_vocab=12), prompt, 20 + 9 * i, temperature=0.7)
        assert sequence.tokens == alone.tokens
