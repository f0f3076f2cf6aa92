"""The runtime: events in order, cancelling, stop strings, threads and event loops."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import pytest

import dspark_local
from dspark_local import Finish, FinishReason, RoundDone, SamplingParams, Text
from dspark_local.errors import BackendError, ClosedError, ContextError, UsageError
from dspark_local.events import Thinking
from dspark_local.testing import scripted_runtime

if TYPE_CHECKING:
    from collections.abc import Callable

    from dspark_local import Runtime

ASK = [{"role": "user", "content": "hello"}]


def test_an_answer_is_text_rounds_and_one_finish() -> None:
    """The text of the events is the answer, and the sums are those of the rounds."""
    with scripted_runtime("Grüße, Welt!") as runtime:
        events = list(runtime.chat(ASK))
    assert "".join(e.text for e in events if isinstance(e, Text)) == "Grüße, Welt!"
    rounds = [e.round for e in events if isinstance(e, RoundDone)]
    assert isinstance(finish := events[-1], Finish)
    assert finish.reason is FinishReason.STOP
    assert finish.text == "Grüße, Welt!"
    assert sum(len(r.tokens) for r in rounds) == finish.stats.predicted_n == len("Grüße, Welt!".encode()) + 1
    assert finish.stats.draft_n_accepted == sum(r.accepted for r in rounds) > 0


@pytest.mark.parametrize("draft", [True, False])
def test_a_stop_string_ends_the_text_before_it(draft: bool) -> None:
    """Nothing of the stop string is shown, wherever the rounds cut it, and the next turn is unharmed."""
    with scripted_runtime("one two three four") as runtime:
        for _ in range(2):
            finish = runtime.chat(ASK, stop=["three", "never"], draft=draft).result()
            assert (finish.text, finish.reason, finish.stop) == ("one two ", FinishReason.STOP, "three")
        assert runtime.chat(ASK).result().text == "one two three four"


def test_log_probabilities_come_with_the_tokens() -> None:
    """One for each token of a round and of the answer, a stop string's end included; none unless asked for."""
    with scripted_runtime("one two three four") as runtime:
        events = list(runtime.chat(ASK, SamplingParams(logprobs=1), stop=["three"]))
        assert isinstance(finish := events[-1], Finish)
        assert [entry.token for entry in finish.logprobs] == list(finish.tokens)
        assert all(entry.top[0].token == entry.token for entry in finish.logprobs)
        for event in events:
            if isinstance(event, RoundDone):
                assert [entry.token for entry in event.round.logprobs] == list(event.round.tokens)
        assert runtime.chat(ASK).result().logprobs == ()


def test_a_stop_string_by_itself_is_one() -> None:
    """Not each of its characters, though a string is a sequence of strings too."""
    with scripted_runtime("one two three four") as runtime:
        assert runtime.chat(ASK, stop="three").result().text == "one two "


FAULTY: list[tuple[Callable[[Runtime], object], str]] = [
    (lambda runtime: runtime.chat("hello"), "a message is a Message, or a mapping"),  # type: ignore[arg-type] # faulty
    (lambda runtime: runtime.chat(ASK[0]), "a message is a Message, or a mapping"),  # type: ignore[arg-type] # faulty
    (lambda runtime: runtime.chat(ASK, tools=[print]), "a tool is a Tool, or a mapping"),  # type: ignore[list-item] # faulty
    (lambda runtime: runtime.chat(ASK, max_tokens=5.0), "max-tokens must be a whole number"),  # type: ignore[arg-type] # faulty
    (lambda runtime: runtime.generate(["hello"]), "by their numbers"),  # type: ignore[list-item] # faulty
    (lambda runtime: runtime.generate([1.5]), "by their numbers"),  # type: ignore[list-item] # faulty
    (lambda _: SamplingParams(seed=1.0), "seed must be a whole number"),  # type: ignore[arg-type] # faulty
    (lambda _: SamplingParams(top_k=5.0), "top-k must be a whole number"),  # type: ignore[arg-type] # faulty
    (lambda _: SamplingParams(json_schema={}), "json-schema is JSON as text"),  # type: ignore[arg-type] # faulty
]


@pytest.mark.parametrize(("ask", "says"), FAULTY)
def test_what_no_type_checker_let_through_is_refused(ask: Callable[[Runtime], object], says: str) -> None:
    """Where it is said, in one line; a number that is none would else stop the engine under everybody."""
    with scripted_runtime("yes") as runtime:
        with pytest.raises(UsageError, match=says):
            ask(runtime)
        assert runtime.chat(ASK).result().text == "yes"


def test_max_tokens_is_exact() -> None:
    """Drafting never overshoots."""
    with scripted_runtime("0123456789") as runtime:
        for n in range(1, 10):
            finish = runtime.chat(ASK, max_tokens=n).result()
            assert (finish.text, finish.reason) == ("0123456789"[:n], FinishReason.LENGTH)


def test_an_answer_that_has_begun_goes_on() -> None:
    """Only the rest is told, in thoughts and text as they belong, and it is what would have come anyway."""
    with scripted_runtime("<think>so it is</think>Yes, so.") as runtime:
        whole = runtime.chat(ASK).result().text
        assert runtime.chat(ASK, begun="<think>so it is</think>Yes,").result().text == " so."
        events = list(runtime.chat(ASK, begun="<think>so"))
        assert "".join(e.text for e in events if isinstance(e, Thinking)) == " it is"
        assert "".join(e.text for e in events if isinstance(e, Text)) == whole


def test_a_reader_who_leaves_cancels() -> None:
    """After a break the slot is free again and the next answer is whole."""
    with scripted_runtime("x" * 2000, seconds=0.001) as runtime:
        generation = runtime.chat(ASK)
        for event in generation:
            if isinstance(event, Text):
                break
        assert generation.cancelled
        assert runtime.chat(ASK, max_tokens=5).result().text == "xxxxx"


def test_cancel_from_another_thread_ends_with_what_there_is() -> None:
    """The reader gets a Finish that says cancelled."""
    with scripted_runtime("x" * 3000, seconds=0.001) as runtime:
        generation = runtime.chat(ASK)
        threading.Timer(0.05, generation.cancel).start()
        finish = generation.result()
    assert finish.reason is FinishReason.CANCELLED
    assert 0 < len(finish.text) < 3000


def test_requests_beyond_the_slots_wait_their_turn() -> None:
    """More requests than slots are all answered."""
    with scripted_runtime("answer", slots=2) as runtime:
        generations = [runtime.chat([{"role": "user", "content": str(i)}]) for i in range(7)]
        assert [g.result().text for g in generations] == ["answer"] * 7


def test_errors_reach_the_reader_and_the_runtime_goes_on() -> None:
    """A decode that fails is raised where the answer is read; the next one works."""
    with scripted_runtime("fine", fail_at=2) as runtime:
        with pytest.raises(BackendError):
            runtime.chat(ASK).result()
        assert runtime.chat(ASK).result().text == "fine"


def test_a_bug_of_ours_reaches_the_reader_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that breaks an assertion ends the answer with an error, and the runtime says that it is closed."""
    with scripted_runtime("fine") as runtime:
        monkeypatch.setattr(runtime._engine.drafter, "propose", lambda *_: [])
        with pytest.raises(BackendError, match="bug of ours"):
            runtime.chat(ASK).result()
        with pytest.raises(ClosedError):
            runtime.chat(ASK).result()


def test_what_cannot_run_is_refused_at_once() -> None:
    """Empty messages, an empty prompt, a prompt beyond the context, a silly limit."""
    with scripted_runtime(n_ctx=64) as runtime:
        with pytest.raises(UsageError, match="at least one message"):
            runtime.chat([])
        with pytest.raises(UsageError, match="content"):
            runtime.chat([{"role": "user"}])
        with pytest.raises(UsageError, match="empty"):
            runtime.generate("")
        with pytest.raises(ContextError, match="context holds 64"):
            runtime.generate("x" * 65)
        with pytest.raises(UsageError, match="max-tokens"):
            runtime.chat(ASK, max_tokens=0)
        with pytest.raises(UsageError, match="stop"):
            runtime.chat(ASK, stop=[""])


def test_a_full_context_is_a_finish() -> None:
    """Text up to the last token that fits, then CONTEXT."""
    with scripted_runtime("y" * 500, n_ctx=64) as runtime:
        finish = runtime.chat(ASK).result()
    assert finish.reason is FinishReason.CONTEXT
    assert finish.stats.prompt_n + finish.stats.predicted_n == 65


def test_closing_ends_what_runs() -> None:
    """Readers get ClosedError, and so do later requests; closing twice is fine."""
    runtime = scripted_runtime("z" * 3000, seconds=0.001)
    generation = runtime.chat(ASK)
    runtime.close()
    runtime.close()
    with pytest.raises(ClosedError):
        generation.result()
    with pytest.raises(ClosedError):
        runtime.chat(ASK)


async def test_an_event_loop_reads_without_blocking() -> None:
    """Two answers interleave with other work in one loop."""
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0.001)

    async def read(runtime: dspark_local.Runtime) -> str:
        return "".join([e.text async for e in runtime.chat(ASK) if isinstance(e, Text)])

    with scripted_runtime("w" * 200, seconds=0.002, slots=2) as runtime:
        ticking = asyncio.create_task(tick())
        assert await asyncio.gather(read(runtime), read(runtime)) == ["w" * 200] * 2
        ticking.cancel()
    assert ticks > 10


async def test_cancelling_the_task_cancels_the_answer() -> None:
    """An async reader that is cancelled leaves no work behind."""
    with scripted_runtime("v" * 3000, seconds=0.001) as runtime:
        generation = runtime.chat(ASK)
        task = asyncio.create_task(_drain(generation))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0)
        assert generation.cancelled
        assert runtime.chat(ASK, max_tokens=3).result().text == "vvv"


async def _drain(generation: dspark_local.Generation) -> None:
    async for _ in generation:
        pass
