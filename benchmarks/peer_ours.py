"""Ours as a contestant: one policy on a loaded runtime, started cold for every answer."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from measure import Run
from peer_question import SEED
from peer_trials import Crowd

from dspark_local import SamplingParams

if TYPE_CHECKING:
    from collections.abc import Sequence

    from peer_question import Question

    from dspark_local import Generation, Runtime
    from dspark_local.engine import Engine
    from dspark_local.scheduling.policy import Policy


@dataclass(frozen=True, slots=True)
class Ours:
    """A policy of ours. Several may share a runtime: they take turns."""

    name: str
    runtime: Runtime
    policy: Policy

    def engine(self) -> Engine:
        """The idle engine, under this policy and with empty caches: no request may find what another has left."""
        self.runtime.policy = self.policy
        engine = self.runtime._engine  # noqa: SLF001 - an app wants its cached prefixes; only a contest does not
        engine.abandon()
        return engine

    def answer(self, question: Question, max_tokens: int) -> Run:
        """One answer by the reader's clock, prefill left out."""
        self.engine()
        generation = self._generate(question, max_tokens)
        began = time.perf_counter()
        finish = generation.result()
        seconds = time.perf_counter() - began - finish.stats.times.prefill
        return Run(finish.tokens, seconds, finish.stats.rounds, finish.stats.times)

    def crowd(self, questions: Sequence[Question], max_tokens: int) -> Crowd:
        """All at once, by our clock."""
        self.engine()
        began = time.perf_counter()
        generations = [self._generate(question, max_tokens) for question in questions]
        tokens = tuple(generation.result().tokens for generation in generations)
        return Crowd(tokens, time.perf_counter() - began)

    def _generate(self, question: Question, max_tokens: int) -> Generation:
        sampling = SamplingParams(temperature=question.temperature, seed=SEED)
        return self.runtime.generate(question.tokens, sampling, max_tokens=max_tokens)
