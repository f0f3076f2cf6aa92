"""Who may come in: before anything of a request is read."""

from __future__ import annotations

import hmac
import ipaddress
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from starlette.datastructures import Headers

from dspark_local.server.errors import Refusal

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

OPEN = "/health"  # needs no key
_HERE = {"localhost", "127.0.0.1", "::1"}


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens on `host`."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Guard:
    """Asks for the key, if there is one.

    A server on loopback answers to the names of loopback only, so that no web page reaches it by a name of its own that
    leads here (DNS rebinding).
    """

    def __init__(self, app: ASGIApp, *, key: str | None, host: str) -> None:
        self._app = app
        self._key = key
        self._hosts = _HERE | {host} if is_loopback(host) else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        refusal = self._refusal(Headers(scope=scope), scope["path"]) if scope["type"] == "http" else None
        if refusal:
            await refusal.response(scope["path"])(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _refusal(self, headers: Headers, path: str) -> Refusal | None:
        if self._hosts is not None and _hostname(headers.get("host", "")) not in self._hosts:
            return Refusal(HTTPStatus.FORBIDDEN, "this server answers to localhost only", code="host")
        if self._key is None or path == OPEN:
            return None
        scheme, _, bearer = headers.get("authorization", "").partition(" ")
        given = bearer.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")
        if hmac.compare_digest(given.encode(), self._key.encode()):
            return None
        return Refusal(HTTPStatus.UNAUTHORIZED, "a valid API key is needed", code="invalid_api_key")


def _hostname(host: str) -> str | None:
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None
