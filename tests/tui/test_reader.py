"""How a generation becomes a few messages a second."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from dspark_local.testing import scripted_runtime
from dspark_local.tui.messages import Answered, Failed, Wrote
from dspark_local.tui.reader import read

if TYPE_CHECKING:
    import pytest
    from textual.message import Message

ANSWER = "abc " * 300


async def test_batches_lose_nothing_and_are_not_sent_before_they_are_due(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first round is told at once and the rest with the end, when the next batch is not due before; all of it."""
    monkeypatch.setattr("dspark_local.tui.reader.RATE", 1e-6)
    told: list[Message] = []
    with scripted_runtime(ANSWER) as runtime:
        await read(runtime.chat([{"role": "user", "content": "Go"}]), told.append)
    *batches, last = told
    assert isinstance(last, Answered)
    assert all(isinstance(b, Wrote) for b in batches)
    rounds = [r for b in batches if isinstance(b, Wrote) for r in b.rounds]
    assert "".join(b.text for b in batches if isinstance(b, Wrote)) == ANSWER == last.finish.text
    assert sum(len(r.tokens) for r in rounds) == last.finish.stats.predicted_n
    assert len(batches) == 2
    assert len(rounds) == last.finish.stats.rounds + last.finish.stats.first_n > 2


async def test_others_get_a_turn_while_a_flood_is_read() -> None:
    """A reader whose events all wait already still lets the screen work between two rounds."""
    turns = 0

    async def work() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    with scripted_runtime(ANSWER) as runtime:
        generation = runtime.chat([{"role": "user", "content": "Go"}])
        await runtime.chat([{"role": "user", "content": "Next"}]).aresult()  # it came after: all was written
        worker = asyncio.create_task(work())
        await read(generation, lambda _: None)
        worker.cancel()
    assert turns >= generation.stats.rounds > 100


async def test_what_came_before_a_failure_is_told_before_it() -> None:
    """The text so far is not lost with the rest."""
    told: list[Message] = []
    with scripted_runtime(ANSWER, fail_at=30) as runtime:
        await read(runtime.chat([{"role": "user", "content": "Go"}]), told.append)
    assert isinstance(told[-1], Failed)
    text = "".join(b.text for b in told if isinstance(b, Wrote))
    assert text
    assert ANSWER.startswith(text)


async def test_cancelling_the_reader_cancels_the_generation() -> None:
    """Nobody reads, so nothing is written."""
    with scripted_runtime(ANSWER, seconds=0.01) as runtime:
        generation = runtime.chat([{"role": "user", "content": "Go"}])
        arrived = asyncio.Event()
        task = asyncio.create_task(read(generation, lambda _: arrived.set()))
        await arrived.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert generation.cancelled
