"""What a drafter would have proposed at every token of an answer: recorded once, replayed under any policy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dspark_local.bench.answers import answer
from dspark_local.scheduling.policy import Plan, everyone
from dspark_local.scheduling.simulate import Trace
from dspark_local.types import Why

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dspark_local.bench.prompts import Prompt
    from dspark_local.runtime import Runtime
    from dspark_local.scheduling.policy import Request
    from dspark_local.types import Round


@dataclass(slots=True)
class Recording:
    """A policy that drafts a whole block before every token and verifies none of it."""

    gamma: int

    def plan(self, requests: Sequence[Request]) -> Plan:
        """A whole block, for all."""
        return everyone(requests, self.gamma)

    def admit(self, confidences: Sequence[Sequence[float]], drafted: Sequence[int]) -> list[int]:  # noqa: ARG002 - as asked
        """None."""
        return [0] * len(drafted)

    def observe(self, rounds: Sequence[Round]) -> None:
        """Nothing to learn."""


def record(runtime: Runtime, prompt: Prompt, *, seed: int, max_tokens: int, looping: bool = True) -> Trace | None:
    """Trace of an answer of at most `max_tokens`; None for one that ends at once, or has no confidences.

    Nor, unless `looping`, of one that goes round in circles. The runtime has its own policy again afterwards.
    """
    gamma, before = runtime.info.block_size, runtime.policy
    runtime.policy = Recording(gamma)
    try:
        # the first token has no block, and the last ones are cut to what the answer can still take
        said = answer(runtime, prompt, seed=seed, max_tokens=1 + max_tokens + gamma)
    finally:
        runtime.policy = before
    if said.loops and not looping:
        return None
    return trace(said.rounds, gamma, prompt, prompt_n=said.stats.prompt_n)


def trace(rounds: Sequence[Round], gamma: int, prompt: Prompt, *, prompt_n: int) -> Trace | None:
    """Trace of rounds of one token each, as far as their blocks are whole and have confidences."""
    drafted = [r for r in rounds if r.why is not Why.PROMPT]
    text = [token for r in drafted for token in r.tokens]
    depth = prompt_n - 1 + len(rounds) - len(drafted)
    blocks = [r for r in drafted if r.draft and len(r.draft) == len(r.confidences) == gamma]
    if not blocks:
        return None
    accepted = [_agreeing(block.draft, text[i:]) for i, block in enumerate(blocks)]
    confidences = np.array([block.confidences for block in blocks], dtype=np.float64)
    return Trace(np.array(accepted), confidences, prompt.kind, prompt.temperature, depth)


def _agreeing(draft: Sequence[int], text: Sequence[int]) -> int:
    """How many tokens of a draft are the text's."""
    return next((k for k, (a, b) in enumerate(zip(draft, text, strict=False)) if a != b), min(len(draft), len(text)))
