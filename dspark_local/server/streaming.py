"""Answers to the client: whole, or as server-sent events; and what is done when the client leaves, or takes nothing.

Server-sent events: https://html.spec.whatwg.org/multipage/server-sent-events.html.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from starlette.responses import JSONResponse, Response

from dspark_local.server.errors import Refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable

    from starlette.requests import Request
    from starlette.types import Receive, Scope, Send

    from dspark_local.runtime import Runtime
    from dspark_local.server.desk import Ask, Desk, Job, Part

T = TypeVar("T")
B = TypeVar("B", bound="Asking")
PING = 15.0  # seconds without an event after which a comment keeps the connection open
CLIENT_GONE = 499  # nobody reads it; nginx' name for it
_HEADERS = {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-store", "x-accel-buffering": "no"}


class Writer(Protocol):
    """An answer in the words of one protocol: events as they are sent, or one object."""

    def begin(self) -> Iterable[str]:
        """Before anything is known."""
        ...

    def part(self, part: Part) -> Iterable[str]:
        """What a round added."""
        ...

    def end(self) -> Iterable[str]:
        """Behind the last part."""
        ...

    def failed(self, refusal: Refusal) -> Iterable[str]:
        """Instead of the rest."""
        ...

    def whole(self) -> dict[str, Any]:
        """The finished answer as one object."""
        ...


class Asking(Protocol):
    """The body of a request for an answer."""

    model: str
    stream: bool | None

    def ask(self, runtime: Runtime) -> Ask:
        """As the desk takes it. Raises Refusal or UsageError."""
        ...


class GoneError(Exception):
    """The client closed the connection."""


async def answer(desk: Desk, body: B, write: Callable[[Job, B], Writer], request: Request) -> Response:
    """The response to a request, in the words of `write`. Raises Refusal, or what the runtime raises."""
    desk.check(body.model)
    job = await desk.take(body.ask(desk.runtime))
    writer = write(job, body)
    if body.stream:
        return EventStream(job, writer)
    with job:
        try:
            await unless_gone(request.receive, _read(job))
        except GoneError:
            return Response(status_code=CLIENT_GONE)
        return JSONResponse(writer.whole())


async def _read(job: Job) -> None:
    try:
        async with asyncio.timeout_at(job.deadline):
            async for _ in job.parts():
                pass
    except TimeoutError:
        raise _late(job) from None


def _late(job: Job) -> Refusal:
    seconds = job.desk.limits.seconds
    return Refusal(HTTPStatus.GATEWAY_TIMEOUT, f"the answer took more than {seconds:g} seconds", code="timeout")


class EventStream(Response):
    """A job's parts as events, each sent when it is there."""

    def __init__(self, job: Job, writer: Writer) -> None:
        super().__init__(headers=_HEADERS)
        del self.headers["content-length"]
        self._job = job
        self._writer = writer
        self._free = asyncio.Lock()  # one thing is sent at a time
        self._sent = 0.0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's signature
        """Send them, to the end or until the client is gone or takes nothing for too long."""
        with self._job:
            try:
                await unless_gone(receive, self._run(send))
            except GoneError:
                return

    async def _run(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": HTTPStatus.OK, "headers": self.raw_headers})
        pings = asyncio.create_task(self._ping(send))
        try:
            await self._events(send)
        except Refusal as refusal:
            await self._send(send, "".join(self._writer.failed(refusal)))
        finally:
            pings.cancel()
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _events(self, send: Send) -> None:
        try:
            async with asyncio.timeout_at(self._job.deadline):
                await self._send(send, "".join(self._writer.begin()))
                async for part in self._job.parts():
                    await self._send(send, "".join(self._writer.part(part)))
                await self._send(send, "".join(self._writer.end()))
        except TimeoutError:
            raise _late(self._job) from None

    async def _send(self, send: Send, text: str) -> None:
        async with self._free:
            try:
                async with asyncio.timeout(self._job.desk.limits.stall):
                    await send({"type": "http.response.body", "body": text.encode(), "more_body": True})
            except TimeoutError:
                raise GoneError from None
            self._sent = asyncio.get_running_loop().time()

    async def _ping(self, send: Send) -> None:
        with contextlib.suppress(GoneError):  # whatever is sent next finds that out too
            while True:
                await asyncio.sleep(PING)
                if asyncio.get_running_loop().time() - self._sent >= PING:
                    await self._send(send, ": still at it\n\n")


async def unless_gone(receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """Do it, but give it up once the client has left. Raises GoneError then."""
    working, watching = asyncio.ensure_future(work), asyncio.ensure_future(_gone(receive))
    try:
        await asyncio.wait((working, watching), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise GoneError
        return working.result()
    finally:
        working.cancel()
        watching.cancel()
        await asyncio.gather(working, watching, return_exceptions=True)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def event(data: dict[str, Any], name: str | None = None) -> str:
    """One event."""
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(data, ensure_ascii=False, separators=(',', ':'))}\n\n"
