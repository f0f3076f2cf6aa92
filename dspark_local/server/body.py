"""Bodies that are too long, or that never end."""

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
        """Pass the request on with its body watched."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            length = Headers(scope=scope).get("content-length", "")
            if length.isdigit() and int(length) > self._limits.body:
                raise self._too_long()
            await self._app(scope, self._watched(receive), send)
        except Refusal as refusal:  # the rest of the body is not read, so the connection is of no more use
            await refusal.response(scope["path"], {"connection": "close"})(scope, receive, send)

    def _watched(self, receive: Receive) -> Receive:
        taken, whole = 0, False

        async def watched() -> Message:
            nonlocal taken, whole
            if whole:
                return await receive()
            try:
                async with asyncio.timeout(self._limits.stall):
                    message = await receive()
            except TimeoutError:
                raise Refusal(HTTPStatus.REQUEST_TIMEOUT, "the request's body did not arrive", code="timeout") from None
            taken += len(message.get("body", b""))
            whole = not message.get("more_body", False)
            if taken > self._limits.body:
                raise self._too_long()
            return message

        return watched

    def _too_long(self) -> Refusal:
        return Refusal(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            f"a request's body has at most {self._limits.body} bytes",
            code="too_large",
        )
