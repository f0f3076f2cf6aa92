"""What ends or refuses a request from outside: its time, and a queue that is full."""

from __future__ import annotations

import math

import pytest

from dspark_local import FinishReason, QueueFullError, Text, UsageError
from dspark_local.testing import scripted_runtime

ASK = [{"role": "user", "content": "hello"}]


def test_a_timeout_ends_the_answer_with_what_there_is() -> None:
    """A Finish that says so, with the text so far; the slot is free for the next."""
    with scripted_runtime("x" * 3000, seconds=0.002) as runtime:
        finish = runtime.chat(ASK, timeout=0.1).result()
        assert finish.reason is FinishReason.TIMEOUT
        assert 0 < len(finish.text) < 3000
        assert runtime.chat(ASK, max_tokens=2, timeout=60).result().reason is FinishReason.LENGTH


def test_a_timeout_counts_while_a_request_waits() -> None:
    """A request behind a long one ends in its time, before it had a slot: no text, no round."""
    with scripted_runtime("x" * 3000, seconds=0.002) as runtime:
        first = runtime.chat(ASK)
        finish = runtime.chat(ASK, timeout=0.05).result()
        assert (finish.reason, finish.text, finish.stats.rounds) == (FinishReason.TIMEOUT, "", 0)
        assert finish.stats.prompt_n > 0
        assert runtime.running == 1
        first.cancel()


@pytest.mark.parametrize("timeout", [0, -1.0, math.nan])
def test_a_timeout_that_is_none_is_refused(timeout: float) -> None:
    with scripted_runtime() as runtime, pytest.raises(UsageError, match="timeout must be more than 0"):
        runtime.chat(ASK, timeout=timeout)


def test_a_full_queue_refuses_at_once() -> None:
    """Slots and `max_waiting` are all there is; who is refused does not disturb the others."""
    with scripted_runtime("x" * 3000, seconds=0.002, slots=2, max_waiting=1) as runtime:
        held = [runtime.chat(ASK) for _ in range(3)]
        assert (runtime.running, runtime.waiting) == (2, 1)
        for ask in (runtime.chat, lambda _: runtime.generate("x")):
            with pytest.raises(QueueFullError, match="1 requests wait already"):
                ask(ASK)
        held[2].cancel()  # while it waits: its place is free before its reader hears of it
        assert held[2].result().reason is FinishReason.CANCELLED
        held.append(runtime.chat(ASK, max_tokens=1))
        held[0].cancel()
        assert held[3].result().text == "x"


def test_one_after_the_other_is_never_refused() -> None:
    """The end is told when the place is free again, not before."""
    with scripted_runtime("ab", max_waiting=0) as runtime:
        for _ in range(200):
            assert runtime.chat(ASK).result().text == "ab"
        assert (runtime.running, runtime.waiting) == (0, 0)


def test_a_request_that_waits_can_be_cancelled_behind_others() -> None:
    """Wherever it stands in the queue, without waiting for a slot."""
    with scripted_runtime("x" * 3000, seconds=0.002) as runtime:
        first, second, third = (runtime.chat(ASK) for _ in range(3))
        third.cancel()
        assert third.result().reason is FinishReason.CANCELLED
        assert next(event.text for event in first if isinstance(event, Text)) == "x"
        second.cancel()
