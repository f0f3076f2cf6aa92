"""Reading an answer: slowly, in part, by several, in an event loop; and being cancelled at it."""

from __future__ import annotations

import asyncio
import gc
import queue
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dspark_local import Finish, FinishReason, RoundDone, Runtime, Text, Thinking, ToolCall, job
from dspark_local.backend.scripted import ScriptedVocab
from dspark_local.chat import Reasoning, TextStream
from dspark_local.errors import BackendError, DSparkError
from dspark_local.job import Job, Limits
from dspark_local.sampling.rule import Sampler
from dspark_local.testing import scripted_runtime
from dspark_local.tools.notation import HERMES
from dspark_local.tools.reader import CallReader
from dspark_local.types import Round, SamplingParams

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator

    from dspark_local import Event, Generation

ASK = [{"role": "user", "content": "hello"}]
PATIENCE = 60


def settle(runtime: Runtime) -> None:
    """Wait until nothing runs or waits: a cancelled request stays until its round is over."""
    until = time.monotonic() + PATIENCE
    while runtime.running:
        assert time.monotonic() < until
        time.sleep(0.001)


def said(events: list[Event], kind: type[Text | Thinking]) -> str:
    return "".join(event.text for event in events if isinstance(event, kind))


CALL = '<tool_call>{"name": "f", "arguments": {}}</tool_call>'


def new_job() -> Job:
    calls = CallReader(HERMES, frozenset({"f"}))
    stream = TextStream(ScriptedVocab())
    return Job([1], Sampler.of(SamplingParams(seed=1)), stream, Limits(), reasoning=Reasoning(), calls=calls)


def write(one: Job, text: str) -> None:
    record = Round(tokens=tuple(text.encode()))
    one.stats.add(record)
    one.take(record)


def waiting(one: Job, most: int = sys.maxsize) -> list[Event | DSparkError]:
    """What can be read without waiting."""
    read: list[Event | DSparkError] = []
    while len(read) < most and not (read and read[-1] is one.end):
        try:
            read.append(one.read(wait=False))
        except queue.Empty:
            break
    return read


def runs(events: list[Event | DSparkError]) -> list[tuple[type, str]]:
    """What was said, however it was cut."""
    said: list[tuple[type, str]] = []
    for event in events:
        if isinstance(event, ToolCall):
            said.append((ToolCall, event.name))
        elif isinstance(event, Text | Thinking):
            joins = said and said[-1][0] is type(event)
            said.append((type(event), (said.pop()[1] if joins else "") + event.text))
    return said


@settings(max_examples=100, deadline=None)
@given(
    data=st.data(),
    texts=st.lists(st.sampled_from(["a", "b c", "é", "<think>", "</think>", "<thi", CALL, CALL[:20]]), max_size=30),
    most=st.integers(1, 12),
    fails=st.booleans(),
)
def test_a_reader_of_any_pace_gets_all_text_and_true_sums(
    data: st.DataObject, texts: list[str], most: int, fails: bool
) -> None:
    """Text, thinking and calls in order, however they were folded; the latest sums; the end, again and again."""

    def end(one: Job) -> None:
        one.fail(BackendError("no more")) if fails else one.finish(FinishReason.STOP)

    prompt, slow = new_job(), new_job()
    read: list[Event | DSparkError] = []
    for text in texts:
        write(prompt, text)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(job, "MOST_UNREAD", most)
            write(slow, text)
        read += waiting(slow, data.draw(st.integers(0, 3)))
    end(prompt)
    end(slow)
    read += waiting(slow)
    assert slow.read(wait=True) is slow.read(wait=True) is read[-1] is slow.end
    assert runs(read) == runs(waiting(prompt))
    sums = [event.stats.predicted_n for event in read if isinstance(event, RoundDone)]
    assert sums == sorted(sums)
    assert sums[-1:] == [len("".join(texts).encode())][: len(texts)]


def test_a_reader_who_stops_reading_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Others are answered meanwhile; what waits for it is bounded; its text is whole when it reads on."""
    monkeypatch.setattr(job, "MOST_UNREAD", 10)
    with scripted_runtime("z" * 1000) as runtime:
        slow = runtime.chat(ASK)
        assert runtime.chat(ASK).result().text == "z" * 1000  # after it, in the only slot
        events = list(slow)
    assert len(events) <= 10 + 3
    assert said(events, Text) == "z" * 1000
    finish, latest = events[-1], events[-2]
    assert isinstance(finish, Finish)
    assert isinstance(latest, RoundDone)
    assert latest.stats == finish.stats


def test_the_end_is_told_to_every_reader() -> None:
    """Three threads share the events, and each of them ends; the answer can be asked for again, after it too."""
    with scripted_runtime("w" * 300, seconds=0.0005) as runtime:
        generation = runtime.chat(ASK)
        shares: list[list[Event]] = [[], [], []]
        readers = [threading.Thread(target=lambda s=s: s.extend(generation), daemon=True) for s in shares]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join(PATIENCE)
            assert not reader.is_alive()
    assert all(isinstance(share[-1], Finish) for share in shares)
    assert len(said([event for share in shares for event in share], Text)) == 300
    assert generation.result() is generation.result() is shares[0][-1]


def test_every_reader_gets_an_error_of_its_own() -> None:
    """One exception raised in two places would gather both their tracebacks."""
    with scripted_runtime(fail_at=0) as runtime:
        generation = runtime.chat(ASK)
        raised = []
        for _ in range(2):
            with pytest.raises(BackendError, match="scripted decode failed") as caught:
                generation.result()
            raised.append(caught.value)
    assert raised[0] is not raised[1]
    assert isinstance(raised[0].__cause__, BackendError)


def test_an_answer_that_nobody_holds_is_cancelled() -> None:
    """So is one that was never read, and one whose loop was left."""
    with scripted_runtime("y" * 3000, seconds=0.002) as runtime:
        runtime.chat(ASK)
        settle(runtime)
        next(iter(runtime.chat(ASK)))
        settle(runtime)
        with runtime.chat(ASK) as generation:
            pass
        assert generation.cancelled
        settle(runtime)


async def test_a_loop_that_is_left_cancels_at_once() -> None:
    """By break, by an exception, by the end of `async with`: without waiting for the event loop's next turn."""
    with scripted_runtime("y" * 3000, seconds=0.002) as runtime:
        left = await runtime.achat(ASK)
        async for _ in left:
            break
        assert left.cancelled

        thrown = await runtime.agenerate("user: hello\nassistant: ")
        with pytest.raises(ZeroDivisionError):
            await _raise_in(thrown)
        assert thrown.cancelled

        async with await runtime.achat(ASK) as entered:
            pass
        assert entered.cancelled
        await asyncio.to_thread(settle, runtime)


async def _raise_in(generation: Generation) -> None:
    async for _ in generation:
        raise ZeroDivisionError


async def test_a_wait_that_times_out_loses_no_event() -> None:
    """`asyncio.wait_for` around each step: the text is whole, however often it ran out."""
    with scripted_runtime("v" * 30, seconds=0.01) as runtime:
        events, late = [], 0
        steps = aiter(await runtime.achat(ASK))
        while not events or not isinstance(events[-1], Finish):
            try:
                events.append(await asyncio.wait_for(anext(steps), 0.001))
            except TimeoutError:
                late += 1
        with pytest.raises(StopAsyncIteration):
            await anext(steps)
    assert said(events, Text) == "v" * 30
    assert late > 0


async def test_an_event_loop_and_a_thread_may_read_the_same_answer() -> None:
    """Neither waits for an end that the other has taken."""
    with scripted_runtime("u" * 200, seconds=0.0005) as runtime:
        for _ in range(8):
            generation = await runtime.achat(ASK)
            both = asyncio.gather(generation.aresult(), generation.aresult(), asyncio.to_thread(generation.result))
            one, *others = await asyncio.wait_for(both, PATIENCE)
            assert one.text == "u" * 200
            assert others == [one, one]


async def test_errors_come_before_the_answer_begins() -> None:
    """`achat` raises where it is awaited, so that a server can still say 400."""
    with scripted_runtime(n_ctx=64) as runtime:
        with pytest.raises(DSparkError, match="at least one message"):
            await runtime.achat([])
        with pytest.raises(DSparkError, match="context holds 64"):
            await runtime.agenerate("x" * 65)


class CancelledAt:
    """Awaits a coroutine, and cancels it at its n-th suspension."""

    def __init__(self, coroutine: Coroutine[Any, Any, None], n: int) -> None:
        self._coroutine, self._left = coroutine, n

    def __await__(self) -> Generator[Any, Any, None]:
        resume: Callable[[], Any] = lambda: self._coroutine.send(None)  # noqa: E731 - replaced below
        while True:
            try:
                waits_for = resume()
            except StopIteration:
                return
            if not self._left:
                self._coroutine.throw(asyncio.CancelledError())
                raise AssertionError("it went on")
            self._left -= 1
            try:
                yield waits_for
            except BaseException as error:  # noqa: BLE001 - handed on
                resume = lambda error=error: self._coroutine.throw(error)  # noqa: E731
            else:
                resume = lambda: self._coroutine.send(None)  # noqa: E731


@pytest.mark.parametrize("whole", [True, False])
async def test_cancelled_at_any_await_it_leaves_the_slot_free(whole: bool) -> None:
    """While it is encoded, while it waits for a slot or an event, between events: nothing keeps running."""

    async def ask() -> None:
        async with await runtime.achat(ASK) as generation:
            if whole:
                await generation.aresult()
                return
            async for _ in generation:
                await asyncio.sleep(0)

    with scripted_runtime("abcdefgh", seconds=0.001, max_waiting=0) as runtime:
        n = 0
        while True:
            try:
                await CancelledAt(ask(), n)
                break  # it has no n-th await
            except asyncio.CancelledError:
                n += 1
            await asyncio.to_thread(settle, runtime)
            assert (await runtime.chat(ASK, max_tokens=2).aresult()).text == "ab"
    assert n > 3


def test_what_was_read_is_not_kept() -> None:
    """Neither the runtime nor its thread holds an answer, or its reader, that is over."""
    with scripted_runtime("t" * 50) as runtime:
        runtime.chat(ASK).result()
        runtime.chat(ASK, max_tokens=1).result()
        gc.collect()
        assert not [o for o in gc.get_objects() if type(o) is Job]
