"""Many threads do everything at once, for a while; and a thousand requests take no memory."""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import gc
import random
import sys
import threading
import time
from typing import TYPE_CHECKING

import psutil
import pytest

from dspark_local import Finish, FinishReason, RoundDone, Runtime
from dspark_local.backend.scripted import ScriptedVocab, random_logits
from dspark_local.errors import ClosedError, QueueFullError
from dspark_local.testing import scripted_runtime
from tests.engine.harness import engine

if TYPE_CHECKING:
    from collections.abc import Callable

    from dspark_local import Event, Generation

ASK = [{"role": "user", "content": "hello"}]
PATIENCE = 120
MOST = 30
PROMPTS = ["one", "another", "a third, longer one", "one more"]


def noise(*, slots: int, max_waiting: int | None = None) -> Runtime:
    """A runtime whose text is another for every prompt."""
    n = ScriptedVocab.n_vocab
    made = engine(random_logits(n, seed=3), random_logits(n, seed=3, scale=1.9), n_vocab=n, slots=slots)
    return Runtime(made, ScriptedVocab(), max_waiting=max_waiting)


@pytest.fixture(scope="module")
def alone() -> dict[str, tuple[int, ...]]:
    """What each prompt's answer is, when nothing else runs."""
    with noise(slots=1) as runtime:
        return {prompt: runtime.generate(prompt, max_tokens=MOST).result().tokens for prompt in PROMPTS}


class Reader:
    """Asks again and again, and does one of everything with the answer; checks each token that it sees."""

    def __init__(self, runtime: Runtime, alone: dict[str, tuple[int, ...]], seed: int) -> None:
        self._runtime = runtime
        self._alone = alone
        self._random = random.Random(seed)
        self.reasons: list[FinishReason] = []

    def ask(self) -> None:
        prompt = self._random.choice(PROMPTS)
        timeout = self._random.choice([None, None, 10, 0.002])
        try:
            generation = self._runtime.generate(prompt, max_tokens=MOST, timeout=timeout)
        except QueueFullError:
            time.sleep(0.001)
            return
        use = self._random.choice([self._whole, self._half, self._cancelled, self._in_a_loop, lambda _: []])
        events = use(generation)
        tokens = [token for event in events if isinstance(event, RoundDone) for token in event.round.tokens]
        assert tuple(tokens) == self._alone[prompt][: len(tokens)]
        if events and isinstance(finish := events[-1], Finish):
            assert finish.tokens == tuple(tokens)
            assert (finish.reason is FinishReason.LENGTH) == (finish.tokens == self._alone[prompt])
            self.reasons.append(finish.reason)

    def _whole(self, generation: Generation) -> list[Event]:
        return list(generation)

    def _half(self, generation: Generation) -> list[Event]:
        return [event for event, _ in zip(generation, range(self._random.randrange(1, 9)), strict=False)]

    def _cancelled(self, generation: Generation) -> list[Event]:
        timer = threading.Timer(self._random.random() / 100, generation.cancel)
        timer.start()
        return list(generation)

    def _in_a_loop(self, generation: Generation) -> list[Event]:
        async def read() -> list[Event]:
            return [event async for event in generation]

        return asyncio.run(read())


def together(work: list[Callable[[], None]]) -> None:
    """Run all at once; a deadlock shows every thread's stack. Raises what they raised."""
    raised: list[BaseException] = []

    def guarded(call: Callable[[], None]) -> None:
        try:
            call()
        except BaseException as error:  # noqa: BLE001 - told below
            raised.append(error)

    threads = [threading.Thread(target=guarded, args=(call,), daemon=True) for call in work]
    until = time.monotonic() + PATIENCE
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0, until - time.monotonic()))
    if any(thread.is_alive() for thread in threads):
        faulthandler.dump_traceback(sys.__stderr__)
        pytest.fail("a thread hangs")
    if raised:
        raise raised[0]


def test_many_threads_at_once(alone: dict[str, tuple[int, ...]]) -> None:
    """Nothing hangs, no text is wrong or mixed, every way to end occurs, and all places are free at the end."""
    with noise(slots=3, max_waiting=5) as runtime:
        readers = [Reader(runtime, alone, seed) for seed in range(12)]
        together([lambda reader=reader: [reader.ask() for _ in range(40)] for reader in readers])
        reasons = {reason for reader in readers for reason in reader.reasons}
        assert reasons == {FinishReason.LENGTH, FinishReason.CANCELLED, FinishReason.TIMEOUT}
        assert runtime.generate(PROMPTS[0], max_tokens=MOST).result().tokens == alone[PROMPTS[0]]
        assert (runtime.running, runtime.waiting) == (0, 0)


def test_closed_at_any_moment_it_lets_everybody_go(alone: dict[str, tuple[int, ...]]) -> None:
    """Whatever the readers are at, they end with ClosedError or were done; each time."""

    def until_closed(reader: Reader) -> None:
        with contextlib.suppress(ClosedError):
            while True:
                reader.ask()

    for seed in range(25):
        runtime = noise(slots=2, max_waiting=3)
        readers = [Reader(runtime, alone, 100 * seed + n) for n in range(6)]
        timer = threading.Timer(random.Random(seed).random() / 20, runtime.close)
        timer.start()
        together([lambda reader=reader: until_closed(reader) for reader in readers])
        runtime.close()
        assert runtime._engine.target.closed


def test_hundreds_of_requests_take_no_memory() -> None:
    """Read, left, cancelled, timed out, dropped and refused: what they took comes back, to some kilobytes."""

    def use(runtime: Runtime, times: int) -> None:
        for n in range(times):
            generation = runtime.chat([{"role": "user", "content": f"{n % 7}"}], timeout=10 if n % 2 else None)
            if n % 5 == 0:
                next(iter(generation))
            elif n % 5 == 1:
                generation.cancel()
                generation.result()
            elif n % 5 < 4:
                generation.result()
            del generation
        runtime.chat(ASK).result()

    with scripted_runtime("Yes.", slots=2) as runtime:
        use(runtime, 200)
        blocks, resident = _memory(runtime)
        use(runtime, 500)
        more_blocks, more_resident = _memory(runtime)
    assert more_blocks - blocks < 250  # half a block for each request: what leaks is at least one
    assert more_resident - resident < 4 << 20


def _memory(runtime: Runtime) -> tuple[int, int]:
    """Blocks that Python holds, and resident bytes."""
    runtime._engine.target.decodes.clear()  # the stand-in's own record of its work
    gc.collect()
    return sys.getallocatedblocks(), psutil.Process().memory_info().rss
