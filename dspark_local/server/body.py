"""Bodies: read before anything else is done, as far as they come, and are not too long."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import TYPE_CHECKING

from starlette.datastructures import Headers

from dspark_local.server.errors import Refusal

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from dspark_local.server.limits import Limits


class BodyLimit:
    """Refuses a body beyond the limit as soon as that is known, and one that stalls."""

    def __init__(self, app: ASGIApp, *, limits: Limits) -> None:
        self._app = app
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with its whole body."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            body = await self._whole(Headers(scope=scope).get("content-length", ""), receive)
        except Refusal as refusal:  # the rest of the body is not read, so the connection is of no more use
            await refusal.response(scope["path"], {"connection": "close"})(scope, receive, send)
            return
        if body is None:
            return
        waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def again() -> Message:
            return waiting.pop() if waiting else await receive()

        await self._app(scope, again, send)

    async def _whole(self, length: str, receive: Receive) -> bytes | None:
        """The body; None when the client left before its end. Raises Refusal."""
        if length.isdigit() and int(length) > self._limits.body:
            raise self._too_long()
        body, more = bytearray(), True
        while more:
            try:
                async with asyncio.timeout(self._limits.stall):
                    message = await receive()
            except TimeoutError:
                raise Refusal(HTTPStatus.REQUEST_TIMEOUT, "the request's body did not arrive", code="timeout") from None
            if message["type"] == "http.disconnect":
                return None
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if len(body) > self._limits.body:
                raise self._too_long()
        return bytes(body)

    def _too_long(self) -> Refusal:
        most = self._limits.body
        return Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a body has at most {most} bytes here", code="too_large")
