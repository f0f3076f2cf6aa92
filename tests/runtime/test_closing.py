"""Closing: from any thread, from inside, twice, by leaving, by forgetting; and with others at work."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from typing import TYPE_CHECKING

import pytest

from dspark_local import Runtime
from dspark_local.backend.scripted import ScriptedVocab
from dspark_local.errors import ClosedError
from dspark_local.testing import scripted_runtime

if TYPE_CHECKING:
    from dspark_local import Generation
    from dspark_local.worker import Worker

ASK = [{"role": "user", "content": "hello"}]
PATIENCE = 30


def gone(runtime: Runtime) -> bool:
    runtime._worker._thread.join(PATIENCE)
    return not runtime._worker._thread.is_alive() and runtime._engine.target.closed


def test_closing_from_many_threads_at_once() -> None:
    """All of them return, and whoever reads or waits gets ClosedError."""
    runtime = scripted_runtime("z" * 3000, seconds=0.002)
    generations = [runtime.chat(ASK) for _ in range(4)]
    closers = [threading.Thread(target=runtime.close, daemon=True) for _ in range(4)]
    for closer in closers:
        closer.start()
    for closer in closers:
        closer.join(PATIENCE)
        assert not closer.is_alive()
    assert runtime.closed
    assert gone(runtime)
    for generation in generations:
        with pytest.raises(ClosedError):
            generation.result()
    for use in (lambda: runtime.chat(ASK), lambda: runtime.generate("x"), runtime.plain):
        with pytest.raises(ClosedError, match="load the model again"):
            use()


def test_closing_inside_a_callback_does_not_wait_for_itself() -> None:
    """What is called on the runtime's own thread may close it: the round that runs is its last."""
    ready, runtimes = threading.Event(), []

    def close() -> None:
        assert ready.wait(PATIENCE)
        runtimes[0].close()

    scripted = scripted_runtime()
    runtimes.append(Runtime(scripted._engine, ScriptedVocab(), at_rest=close))
    ready.set()
    assert gone(runtimes[0])
    scripted.close()


def test_closing_waits_for_who_still_encodes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights and vocabulary are freed when nobody reads them any more; the late request is refused."""
    inside, go_on = threading.Event(), threading.Event()
    runtime = scripted_runtime()

    def encode(text: str, **_: object) -> list[int]:
        inside.set()
        assert go_on.wait(PATIENCE)
        assert not runtime._engine.target.closed
        return list(text.encode())

    monkeypatch.setattr(runtime.vocab, "encode", encode)
    refused: list[BaseException] = []

    def ask() -> None:
        try:
            runtime.generate("x")
        except ClosedError as error:
            refused.append(error)

    threads = [threading.Thread(target=target, daemon=True) for target in (ask, runtime.close)]
    threads[0].start()
    assert inside.wait(PATIENCE)
    threads[1].start()
    while not runtime.closed:
        time.sleep(0.001)
    assert not runtime._engine.target.closed
    go_on.set()
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()
    assert len(refused) == 1
    assert gone(runtime)


def test_closing_where_a_request_was_interrupted_does_not_wait_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a signal handler does that comes while its own thread encodes."""
    runtime = scripted_runtime()

    def encode(text: str, **_: object) -> list[int]:
        runtime.close()
        return list(text.encode())

    monkeypatch.setattr(runtime.vocab, "encode", encode)
    with pytest.raises(ClosedError):
        runtime.generate("x")
    assert gone(runtime)


def test_closing_where_a_request_was_interrupted_on_its_way_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also under the lock that counts requests: nothing waits for that thread, and the request is told."""
    runtime = scripted_runtime("x" * 3000, seconds=0.002)
    first = runtime.chat(ASK)
    checks: list[int] = []

    def check() -> None:
        checks.append(1)
        if len(checks) == 2:  # the first is before the work
            runtime.close()

    monkeypatch.setattr(runtime._worker, "check_room", check)
    thread = threading.Thread(target=lambda: late.append(runtime.generate("x")), daemon=True)
    late: list[Generation] = []
    thread.start()
    thread.join(PATIENCE)
    assert not thread.is_alive()
    for generation in (first, late[0]):
        with pytest.raises(ClosedError):
            generation.result()
    assert gone(runtime)


def test_a_runtime_that_nobody_holds_closes() -> None:
    """But not while somebody holds an answer of it."""

    def begin() -> tuple[weakref.ref[Runtime], Worker, Generation]:
        runtime = scripted_runtime("kept" * 20, seconds=0.001)
        return weakref.ref(runtime), runtime._worker, runtime.chat(ASK)

    runtime, worker, generation = begin()
    assert generation.result().text == "kept" * 20
    assert runtime() is not None
    assert not worker.closed
    del generation
    gc.collect()
    assert runtime() is None
    worker._thread.join(PATIENCE)
    assert worker.engine.target.closed


async def test_leaving_closes_in_an_event_loop_too() -> None:
    async with scripted_runtime("x" * 3000, seconds=0.002) as runtime:
        generation = await runtime.achat(ASK)
    with pytest.raises(ClosedError):
        await generation.aresult()
    assert gone(runtime)


def test_runtimes_are_independent() -> None:
    """Several in a process, each with answers of its own; closing one leaves the others."""
    runtimes = [scripted_runtime(str(n) * 50, seconds=0.0005) for n in range(4)]
    generations = [runtime.chat(ASK) for runtime in runtimes]
    runtimes[0].close()
    with pytest.raises(ClosedError):
        generations[0].result()
    assert [g.result().text for g in generations[1:]] == [str(n) * 50 for n in (1, 2, 3)]
    for runtime in runtimes[1:]:
        runtime.close()
