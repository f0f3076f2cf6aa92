"""One answer with a clock beside it."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dspark_local.scheduling.policy import Fixed

if TYPE_CHECKING:
    from dspark_local import RoundTimes, Runtime, SamplingParams

NGRAM = 8


@dataclass(frozen=True, slots=True)
class Run:
    """One answer: `seconds` from its first round to its end, prefill left out; `times` what its decodes took."""

    tokens: tuple[int, ...]
    seconds: float
    rounds: int
    times: RoundTimes

    @property
    def rate(self) -> float:
        """Tokens per second."""
        return len(self.tokens) / self.seconds

    @property
    def accepted_length(self) -> float:
        """Tokens committed per round, the target's own included (τ)."""
        return len(self.tokens) / self.rounds

    @property
    def host(self) -> float:
        """Seconds outside llama.cpp's decodes, whoever spent them: the loop, its threads, detokenising, the reader."""
        return self.seconds - self.times.draft - self.times.verify - self.times.inject

    @property
    def repeated(self) -> float:
        """Share of 8-grams that occurred before: text that loops drafts well and proves nothing."""
        grams = [self.tokens[i : i + NGRAM] for i in range(len(self.tokens) - NGRAM + 1)]
        return 1 - len(set(grams)) / len(grams) if grams else 0.0


def answer(runtime: Runtime, prompt: str, sampling: SamplingParams, *, gamma: int, max_tokens: int) -> Run:
    """Answer one question with γ drafts a round; γ 0 is for a runtime without a drafter."""
    runtime.policy = Fixed(gamma)
    generation = runtime.chat([{"role": "user", "content": prompt}], sampling, max_tokens=max_tokens)
    began = time.perf_counter()
    finish = generation.result()
    seconds = time.perf_counter() - began - finish.stats.times.prefill
    return Run(finish.tokens, seconds, finish.stats.rounds, finish.stats.times)


def progress(line: str, *, last: bool) -> None:
    """On one line of a terminal; in a file, line by line."""
    here = sys.stderr.isatty()
    print(f"\r\x1b[K{line}" if here else line, end="" if here and not last else "\n", file=sys.stderr, flush=True)
