"""The thread that owns an Engine: jobs come in, rounds run, events go out."""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import queue
import threading
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from dspark_local.errors import BackendError, ClosedError, DSparkError, ForkError, OutOfMemoryError, QueueFullError
from dspark_local.types import FinishReason

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from dspark_local.engine import Engine
    from dspark_local.job import Job
    from dspark_local.sequence import Sequence

PAUSE = 1.0  # seconds with nothing to do: rest takes tens of milliseconds, for which whoever asks next would wait
_logger = logging.getLogger(__name__)
_alive: set[Worker] = set()
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Call(Generic[T]):
    """What somebody wants of the engine, and where the answer goes."""

    asked: Future[T]
    work: Callable[[Engine], T]

    def run(self, engine: Engine) -> None:
        try:
            self.asked.set_result(self.work(engine))
        except Exception as error:  # noqa: BLE001 - whoever asked has it
            self.asked.set_exception(error)


@atexit.register
def _close_all() -> None:
    """A thread that dies inside llama.cpp would take the program's exit down with it."""
    for worker in tuple(_alive):
        worker.close()


class Worker:
    """Runs jobs until it is closed. Every method may be called from any thread, and from a signal handler.

    `max_waiting` jobs, or any number, wait for a slot; `at_rest` is called after a while with nothing to do.
    """

    def __init__(self, engine: Engine, *, max_waiting: int | None, at_rest: Callable[[], None]) -> None:
        self.engine = engine
        self._room = None if max_waiting is None else engine.target.n_slots + max_waiting
        self._at_rest = at_rest
        self._inbox: queue.SimpleQueue[Job | _Call[Any] | None] = queue.SimpleQueue()
        self._waiting: deque[Job] = deque()
        self._running: dict[Sequence, Job] = {}
        self._held = 0  # jobs that have not ended
        self._rested = False  # since the last round
        self._lock = threading.RLock()  # of `_held`; a signal handler may come back to what it interrupted
        self._users: dict[object, int] = {}  # who asks, or uses vocabulary or weights: its thread
        self._closed = False
        self._pid = os.getpid()
        self._thread = threading.Thread(target=self._work, name="dspark-local", daemon=True)
        _alive.add(self)
        self._thread.start()

    @property
    def running(self) -> int:
        """Jobs that have a slot."""
        return min(self._held, self.engine.target.n_slots)

    @property
    def waiting(self) -> int:
        """Jobs that have none yet."""
        return self._held - self.running

    @property
    def closed(self) -> bool:
        """Whether it takes no more jobs."""
        return self._closed

    def check_process(self) -> None:
        """Raise ForkError in a child of the process that loaded the model: it has no such thread."""
        if os.getpid() != self._pid:
            raise ForkError(
                "this runtime belongs to the process that this one was forked from; "
                "start it by spawn (multiprocessing), and load the model in it"
            )

    def check_room(self) -> None:
        """Raise QueueFullError where a job would be refused."""
        if self._room is not None and self._held >= self._room:
            raise QueueFullError(f"{self.waiting} requests wait already, as many as may; ask again later")

    @contextlib.contextmanager
    def using(self) -> Iterator[None]:
        """Keep vocabulary and weights from being freed meanwhile. Raises ForkError or ClosedError."""
        self.check_process()
        user = object()
        try:
            self._users[user] = threading.get_ident()  # first: then either this sees it closed, or its end sees this
            if self._closed:
                raise ClosedError("this runtime is closed; load the model again")
            yield
        finally:
            self._users.pop(user, None)
            self.wake()

    def submit(self, job: Job) -> None:
        """Run it when it is its turn. Raises ForkError, ClosedError or QueueFullError."""
        with self.using(), self._lock:
            self.check_room()
            self._held += 1
            self._inbox.put(job)

    def call(self, work: Callable[[Engine], T]) -> T:
        """What `work` makes of the engine on its thread, between two rounds. Raises what it raises, as `submit` too."""
        if threading.get_ident() == self._thread.ident:
            return work(self.engine)
        asked: Future[T] = Future()
        with self.using():
            self._inbox.put(_Call(asked, work))
        return asked.result()

    def wake(self) -> None:
        """Have it look around: a job was cancelled, or it is to close."""
        self._inbox.put(None)

    def stop(self) -> None:
        """End what runs, and then free the models; without waiting for it, and not for what a fork has of it."""
        if os.getpid() == self._pid:
            self._closed = True
            self.wake()

    def close(self) -> None:
        """`stop`, and wait for it, unless this thread is what it waits for."""
        self.stop()
        if os.getpid() != self._pid:
            return
        here = threading.get_ident()
        if here != self._thread.ident and here not in self._users.values():
            self._thread.join()

    def _work(self) -> None:
        end: DSparkError = ClosedError("the runtime was closed while it answered")
        try:
            while not self._closed:
                self._turn()
        except Exception as error:
            _logger.exception("the engine stopped")
            end = BackendError(f"the engine stopped by a bug of ours, please report it: {error!r}")
        finally:
            self._closed = True
            self._receive(wait=0)
            self._fail_all(end)
            self._rest()
            while self._users:
                self._receive(wait=None)
            self._receive(wait=0)
            self._fail_all(end)
            self.engine.close()
            _alive.discard(self)

    def _fail_all(self, error: DSparkError) -> None:
        for job in [*self._running.values(), *self._waiting]:
            self._release()
            job.fail(error)
        self._running.clear()
        self._waiting.clear()

    def _turn(self) -> None:
        idle = not self._running and not self._waiting
        if idle and not self._rested and not self._receive(wait=PAUSE):
            self._rest()
        self._receive(wait=None if idle and self._rested else 0)
        self._drop()
        self._admit()
        if self._running:
            self._rested = False
            self._round()

    def _rest(self) -> None:
        self._rested = True
        try:
            self._at_rest()
        except Exception:
            _logger.exception("what is done at rest failed")

    def _receive(self, *, wait: float | None) -> bool:
        """Take in what has come, within so many seconds or, if None, whenever it comes; whether anything did."""
        came = False
        with contextlib.suppress(queue.Empty):
            while True:
                job = self._inbox.get(timeout=wait)
                wait, came = 0, True
                if isinstance(job, _Call):
                    job.run(self.engine)
                elif job is not None:
                    self._waiting.append(job)
        return came

    def _drop(self) -> None:
        """Finish what was cancelled or is out of time, wherever it stands."""
        for job in list(self._waiting):
            if reason := job.over:
                self._release()
                job.finish(reason)
                self._waiting.remove(job)
        for sequence, job in list(self._running.items()):
            if reason := job.over:
                self.engine.finish(sequence, reason)
                self._finish(sequence, reason)

    def _admit(self) -> None:
        while self._waiting and self.engine.free:
            job = self._waiting[0]  # and there it stays until it runs or has failed: no job is ever in between
            try:
                sequence = self.engine.add(job.tokens, job.sampler, max_tokens=job.max_tokens, draft=job.limits.draft)
            except (DSparkError, MemoryError) as error:
                self._release()
                job.fail(_told(error))
            else:
                job.stats = sequence.stats
                self._running[sequence] = job
            self._waiting.popleft()

    def _round(self) -> None:
        try:
            records = self.engine.step()
        except (DSparkError, MemoryError) as error:
            records = []
            for sequence in self.engine.abandon():
                self._fail(sequence, error)
        for sequence in [s for s in self._running if s.error]:
            self._fail(sequence, sequence.error)
        for sequence, record in records:
            job = self._running[sequence]
            kept = job.take(record)
            reason = sequence.finish_reason
            if job.satisfied:
                reason = FinishReason.STOP
                keep = len(sequence.tokens) - len(record.tokens) + kept
                self.engine.finish(sequence, reason, keep=keep)
            if reason:
                self._finish(sequence, reason)

    def _fail(self, sequence: Sequence, error: DSparkError | MemoryError | None) -> None:
        assert error
        self._release()
        self._running[sequence].fail(_told(error))
        del self._running[sequence]

    def _finish(self, sequence: Sequence, reason: FinishReason) -> None:
        self._release()
        self._running[sequence].finish(reason)
        del self._running[sequence]

    def _release(self) -> None:
        """One job fewer: before its reader hears of the end, and perhaps asks again."""
        with self._lock:
            self._held -= 1


def _told(error: DSparkError | MemoryError) -> DSparkError:
    if isinstance(error, DSparkError):
        return error
    return OutOfMemoryError("the machine has no memory left for this round; close other programs or lower --ctx-size")
