"""The desk by itself: a reader that is late, and one that never comes."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from dspark_local import Message, SamplingParams, job
from dspark_local.errors import QueueFullError
from dspark_local.server.desk import Ask, Desk
from dspark_local.server.limits import Limits
from dspark_local.testing import scripted_runtime

if TYPE_CHECKING:
    from dspark_local import Runtime
    from dspark_local.server.desk import Job

LONG = "All work and no play. " * 180


def ask(**sampling: int) -> Ask:
    return Ask(messages=[Message("user", "Hi")], sampling=SamplingParams(**sampling))  # type: ignore[arg-type] # its own


async def until_still(runtime: Runtime) -> None:
    while runtime.running or runtime.waiting:  # noqa: ASYNC110 - it tells of no end
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("late", [True, False])
async def test_a_late_reader_loses_nothing(late: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rounds that it missed are told of in one part: text and log-probabilities are whole, and in order."""
    monkeypatch.setattr(job, "MOST_UNREAD", 10)
    words = LONG[:200]
    with scripted_runtime(words) as runtime:
        with await Desk(runtime, Limits()).take(ask(logprobs=0)) as taken:
            if late:
                await until_still(runtime)
            parts = [part async for part in taken.parts()]
        assert "".join(part.text for part in parts) == taken.text == words
        tokens = [entry.token for part in parts for entry in part.logprobs]
        assert bytes(tokens).decode() == words


async def let_in(desk: Desk) -> Job:
    """Once there is room: a request that was given up leaves when its thread has done with it."""
    while True:
        with suppress(QueueFullError):
            return await desk.take(ask())
        await asyncio.sleep(0.01)


async def test_a_request_that_nobody_waits_for_is_given_up() -> None:
    """Its task may be cancelled at any await of the desk: the place is free again, and the slot."""
    with scripted_runtime(LONG, seconds=0.01, max_waiting=0) as runtime:
        desk = Desk(runtime, Limits())
        for turns in range(12):
            task = asyncio.create_task(let_in(desk))
            for _ in range(turns):
                await asyncio.sleep(0.0005)
            task.cancel()
            try:
                taken = await task
            except asyncio.CancelledError:
                continue
            with taken:
                pass
        with await asyncio.wait_for(let_in(desk), 30), pytest.raises(QueueFullError):
            await desk.take(ask())
