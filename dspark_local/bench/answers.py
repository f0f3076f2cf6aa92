"""One answer with a clock beside it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dspark_local.bench.loops import loops
from dspark_local.events import Finish, RoundDone
from dspark_local.types import SamplingParams

if TYPE_CHECKING:
    from dspark_local.bench.prompts import Prompt
    from dspark_local.generation import Generation
    from dspark_local.runtime import Runtime
    from dspark_local.types import Round, Stats



@dataclass(frozen=True, slots=True)
class Answer:
    """What was said, round by round; `seconds` from the first round to the end, prefill left out."""

    finish: Finish
    rounds: tuple[Round, ...]
    seconds: float

    @property
    def stats(self) -> Stats:
        """Sums over the rounds."""
        return self.finish.stats

    @property
    def rate(self) -> float:
        """Tokens per second; the one that came with the prompt counts only where there is no other."""
        return max(1, len(self.finish.tokens) - self.stats.first_n) / self.seconds

    @property
    def host(self) -> float:
        """Seconds outside llama.cpp's decodes, whoever spent them: the loop, its threads, detokenising, the reader."""
        times = self.stats.times
        return self.seconds - times.draft - times.verify - times.inject

    @property
    def loops(self) -> bool:
        """Whether its text loops; then no figure counts it."""
        return loops(self.finish.tokens)


def answer(runtime: Runtime, prompt: Prompt, *, seed: int, max_tokens: int) -> Answer:
    """Ask, and wait for the end. Raises what the runtime raises."""
    sampling = SamplingParams(temperature=prompt.temperature, seed=seed)
    if prompt.raw:
        generation = runtime.generate(prompt.prompt, sampling, max_tokens=max_tokens)
    else:
        generation = runtime.chat(prompt.messages, sampling, max_tokens=max_tokens)
    return heard(generation)


def heard(generation: Generation) -> Answer:
    """Wait for the end of what was asked. Raises what the runtime raises."""
    rounds: list[Round] = []
    began = time.perf_counter()
    for event in generation:
        if isinstance(event, RoundDone):
            rounds.append(event.round)
        elif isinstance(event, Finish):
            seconds = time.perf_counter() - began - event.stats.times.prefill
            return Answer(event, tuple(rounds), seconds)
    raise AssertionError("a generation ends with Finish")
