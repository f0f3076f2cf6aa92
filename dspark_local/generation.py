"""An answer on its way, as its reader has it."""

from __future__ import annotations

import asyncio
import copy
import queue
from functools import partial
from typing import TYPE_CHECKING, Self

from dspark_local.errors import DSparkError
from dspark_local.events import Event, Finish

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from dspark_local.backend.base import Vocab
    from dspark_local.job import Job
    from dspark_local.types import Stats
    from dspark_local.worker import Worker


class Generation:
    """Iterate over its events, in a thread or in an event loop, or ask for the `result`. `chat` and `generate` make it.

    Leaving the iteration early, or the `with` block, cancels it, and so does dropping it. It may be read by several:
    each event goes to one of them, the end to all.
    """

    def __init__(self, job: Job, worker: Worker, owner: object) -> None:
        self._job = job
        self._worker = worker
        self._owner = owner  # a runtime that nobody holds any more closes

    @property
    def cancelled(self) -> bool:
        """Whether it was told to stop."""
        return self._job.cancelled

    @property
    def stats(self) -> Stats:
        """The sums so far."""
        return self._job.stats.snapshot()

    @property
    def prompt(self) -> tuple[int, ...]:
        """The tokens that it goes on from, chat template included."""
        return tuple(self._job.tokens)

    @property
    def vocab(self) -> Vocab:
        """Of the model that answers."""
        return self._job.stream.vocab

    def cancel(self) -> None:
        """Stop as soon as the round that runs is over; from any thread, and from a signal handler."""
        self._job.cancelled = True
        self._worker.wake()

    def result(self) -> Finish:
        """Wait for the end. Raises what went wrong."""
        for _ in self:
            pass
        return self._finish()

    async def aresult(self) -> Finish:
        """Wait for the end, in an event loop. Raises what went wrong."""
        async for _ in self:
            pass
        return self._finish()

    def __iter__(self) -> Iterator[Event]:
        try:
            while True:
                yield (event := self._read(wait=True))
                if isinstance(event, Finish):
                    return
        finally:
            self._leave()

    def __aiter__(self) -> AsyncIterator[Event]:
        return _Reader(partial(self._read, wait=False), self._leave, self._job.listeners)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._leave()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._leave()

    def __del__(self) -> None:
        self._leave()

    def _finish(self) -> Finish:
        assert isinstance(self._job.end, Finish)
        return self._job.end

    def _leave(self) -> None:
        if self._job.end is None:
            self.cancel()

    def _read(self, *, wait: bool) -> Event:
        self._worker.check_process()
        event = self._job.read(wait=wait)
        if isinstance(event, DSparkError):
            raise copy.copy(event) from event  # every reader gets a traceback of its own
        return event


class _Reader:
    """One iteration in an event loop. A wait that is cancelled loses no event; dropping the iteration leaves it."""

    def __init__(
        self, read: Callable[[], Event], leave: Callable[[], None], listeners: list[Callable[[], object]]
    ) -> None:
        self._read = read
        self._leave = leave
        self._listeners = listeners
        self._arrived = asyncio.Event()
        self._tell: Callable[[], object] | None = None
        self._over = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        if self._over:
            raise StopAsyncIteration
        if self._tell is None:
            self._tell = tell = partial(asyncio.get_running_loop().call_soon_threadsafe, self._arrived.set)
            self._listeners.append(tell)
        while True:
            self._arrived.clear()
            try:
                event = self._read()
            except queue.Empty:
                await self._arrived.wait()
                continue
            self._over = isinstance(event, Finish)
            return event

    def __del__(self) -> None:
        if self._tell in self._listeners:
            self._listeners.remove(self._tell)
        self._leave()
