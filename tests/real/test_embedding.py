"""Many threads on the real thing: llama.cpp, the demo pair, several slots."""

from __future__ import annotations

import random
import threading
import time
from dataclasses import dataclass, field

import pytest

import dspark_local
from dspark_local import ClosedError, FinishReason, Generation, Runtime, SamplingParams

QUESTIONS = [f"What does {name} do?" for name in ("random.choice", "os.path.join", "sorted", "len")]
SAMPLING = SamplingParams(temperature=0.7, seed=5)
PATIENCE = 120
MOST = 30


def load(slots: int) -> Runtime:
    return dspark_local.load("demo", policy="fixed:3", threads=1, fixed_width=4, slots=slots)


def ask(runtime: Runtime, question: str, timeout: float | None = None) -> Generation:
    messages = [{"role": "user", "content": question}]
    return runtime.chat(messages, SAMPLING, max_tokens=MOST, timeout=timeout)


@dataclass
class Reader:
    """Asks until the runtime is closed; leaves some answers, and gives some too little time."""

    runtime: Runtime
    alone: dict[str, tuple[int, ...]]
    chance: random.Random
    right: list[bool] = field(default_factory=list)
    closed: bool = False

    def run(self) -> None:
        try:
            while True:
                self._once(self.chance.choice(QUESTIONS))
        except ClosedError:
            self.closed = True

    def _once(self, question: str) -> None:
        generation = ask(self.runtime, question, self.chance.choice([None, None, 0.05]))
        if self.chance.random() < 0.2:
            next(iter(generation))
            return
        finish = generation.result()
        n = len(finish.tokens) if finish.reason is FinishReason.TIMEOUT else MOST
        self.right.append(finish.tokens == self.alone[question][:n])


def test_many_threads_get_the_text_that_each_gets_alone() -> None:
    """In the fixed-width mode, by seed, whatever the others do: leave, cancel, run out of time; and close at last."""
    with load(1) as one:
        alone = {question: ask(one, question).result().tokens for question in QUESTIONS}
    with load(4) as runtime:
        readers = [Reader(runtime, alone, random.Random(seed)) for seed in range(8)]
        threads = [threading.Thread(target=reader.run, daemon=True) for reader in readers]
        for thread in threads:
            thread.start()
        until = time.monotonic() + PATIENCE
        while sum(len(reader.right) for reader in readers) < 20 and time.monotonic() < until:
            time.sleep(0.02)
        runtime.close()  # in the midst of it
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()
    assert all(reader.closed for reader in readers)
    right = [one for reader in readers for one in reader.right]
    assert len(right) >= 20
    assert all(right)
    with pytest.raises(ClosedError):
        runtime.vocab.encode("x", special=True)
