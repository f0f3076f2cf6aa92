"""What a drafter is worth, task by task, as Table 1 of the paper has it: accepted length, confidence, speed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from dspark_local.bench.answers import heard
from dspark_local.bench.figures import geometric_mean
from dspark_local.errors import UsageError
from dspark_local.scheduling.policy import Fixed
from dspark_local.scheduling.reliability import reliability
from dspark_local.types import SamplingParams

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from dspark_local.bench.answers import Answer
    from dspark_local.chat import Message
    from dspark_local.runtime import Runtime
    from dspark_local.scheduling.reliability import Reliability

Conversation = tuple["Message", ...]


@dataclass(frozen=True)
class Task:
    """Answers to one file of prompts at one temperature, every round with a whole block of γ drafts.

    `speeds` are those of the runtime's own policy against plain decoding, a prompt each; empty if not measured.
    """

    name: str
    temperature: float
    gamma: int
    answers: tuple[Answer, ...]
    speeds: tuple[float, ...] = ()

    @cached_property
    def counted(self) -> list[Answer]:
        """Answers that do not loop."""
        return [a for a in self.answers if not a.loops]

    @property
    def rounds(self) -> int:
        """Of the answers that count."""
        return sum(a.stats.rounds for a in self.counted)

    @property
    def accepted_length(self) -> float:
        """Tokens per round, the target's own included; NaN where no answer counts."""
        tokens = sum(a.stats.predicted_n - a.stats.first_n for a in self.counted)
        return tokens / self.rounds if self.rounds else float("nan")

    @cached_property
    def by_position(self) -> list[tuple[float, float]]:
        """Of each position: share of the blocks that reached it, given all before, and of all blocks, that accepted it.

        Blocks that the end of an answer cut short count where they reach.
        """
        blocks = [r for a in self.counted for r in a.rounds if r.draft]
        shares = []
        for k in range(self.gamma):
            verified = [r for r in blocks if r.admitted > k]
            accepted = sum(r.accepted > k for r in verified)
            reached = sum(r.accepted >= k for r in verified)
            shares.append((accepted / max(1, reached), accepted / max(1, len(verified))))
        return shares

    @cached_property
    def confidence(self) -> Reliability | None:
        """How far survival, c_1·…·c_k, foresees "the first k were accepted", all positions together; None without."""
        stated, happened = [], []
        for r in (r for a in self.counted for r in a.rounds if r.confidences):
            survival = np.cumprod(r.confidences)[: r.admitted]
            stated.append(survival)
            happened.append(np.arange(len(survival)) < r.accepted)
        return reliability(np.concatenate(stated), np.concatenate(happened)) if stated else None

    @property
    def speed(self) -> float:
        """Geometric mean of the speeds; NaN of none."""
        return geometric_mean(self.speeds)


def evaluate(
    runtime: Runtime,
    suites: Mapping[str, Sequence[Conversation]],
    *,
    temperatures: Sequence[float],
    max_tokens: int,
    seed: int = 1,
    speed: bool = True,
    progress: Callable[[str, float], None] = lambda _stage, _share: None,
) -> list[Task]:
    """Ask everything, at each temperature. Raises UsageError for a runtime without a drafter."""
    gamma, policy = runtime.info.block_size, runtime.policy
    if not gamma:
        raise UsageError("there is nothing to evaluate: this model runs without a drafter")
    work = [(name, t) for name in suites for t in temperatures]
    total = sum(len(suites[name]) for name, _ in work)
    tasks, done = [], 0
    plain = runtime.plain() if speed else None
    try:
        for name, temperature in work:
            answers, speeds = [], []
            for i, conversation in enumerate(suites[name]):
                progress(f"{name} at T = {temperature:g}", done / total)
                done += 1
                sampling = SamplingParams(temperature=temperature, seed=seed + i)
                runtime.policy = Fixed(gamma)
                answers.append(_asked(runtime, conversation, sampling, max_tokens))
                if plain and not answers[-1].loops:
                    runtime.policy = policy
                    drafted = _asked(runtime, conversation, sampling, max_tokens)
                    speeds.append(drafted.rate / _asked(plain, conversation, sampling, max_tokens).rate)
            tasks.append(Task(name, temperature, gamma, tuple(answers), tuple(speeds)))
    finally:
        runtime.policy = policy
        if plain:
            plain.close()
    return tasks


def _asked(runtime: Runtime, conversation: Conversation, sampling: SamplingParams, max_tokens: int) -> Answer:
    if runtime.vocab.chat_template is None:
        return heard(runtime.generate(conversation[-1].content, sampling, max_tokens=max_tokens))
    return heard(runtime.chat(conversation, sampling, max_tokens=max_tokens))
