"""The application: routes behind the guard, and errors in the protocol's own shape."""

from __future__ import annotations

import logging
import time
from http import HTTPStatus
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware

from dspark_local.errors import ClosedError, DSparkError
from dspark_local.server import chat, completions, messages, responses
from dspark_local.server.body import BodyLimit
from dspark_local.server.desk import Desk
from dspark_local.server.errors import Refusal, malformed, unknown
from dspark_local.server.guard import OPEN, Guard
from dspark_local.server.limits import Limits
from dspark_local.server.metrics import Counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dspark_local.runtime import Runtime

_logger = logging.getLogger(__name__)


def create_app(
    runtime: Runtime,
    *,
    key: str | None = None,
    host: str = "127.0.0.1",
    limits: Limits | None = None,
    name: str | None = None,
    origins: Sequence[str] = (),
) -> FastAPI:
    """An ASGI application over a runtime, which stays the caller's to close.

    `key` is asked of every client; `host` is what the server listens on; `name` is what clients call the model;
    web pages of `origins` may use it.
    """
    desk = Desk(runtime, limits or Limits(), name=name)
    app = FastAPI(title="dspark-local", version=version("dspark-local"), docs_url=None, redoc_url=None)
    for protocol in (chat, completions, responses, messages):
        app.include_router(protocol.routes(desk))
    _add_others(app, desk)

    app.add_middleware(BodyLimit, limits=desk.limits)
    app.add_middleware(Guard, key=key, host=host)
    app.add_middleware(Counted, metrics=desk.metrics)
    if origins:
        app.add_middleware(CORSMiddleware, allow_origins=list(origins), allow_methods=["*"], allow_headers=["*"])
    for error, answer in ((Refusal, _refused), (DSparkError, _failed), (RequestValidationError, _malformed)):
        app.add_exception_handler(error, answer)
    app.add_exception_handler(HTTPException, _not_here)
    app.add_exception_handler(Exception, _bug)
    return app


def _add_others(app: FastAPI, desk: Desk) -> None:
    began = int(time.time())
    row = {"id": desk.name, "object": "model", "created": began, "owned_by": "dspark-local"}
    missing: dict[int | str, dict[str, Any]] = {"4XX": {"description": "There is no such model here."}}

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        """The one model that is served, and the context that one request has."""
        return {"object": "list", "data": [{**row, "meta": {"n_ctx": desk.runtime.info.n_ctx}}]}

    @app.get("/v1/models/{model:path}", responses=missing)
    async def model(model: str) -> dict[str, Any]:
        """The model of this name."""
        desk.check(model)
        return row

    @app.get(OPEN, responses={"5XX": {"description": "The runtime is closed."}})
    async def health() -> dict[str, str]:
        """Whether requests are answered."""
        if desk.runtime.closed:
            raise ClosedError("the runtime is closed")
        return {"status": "ok"}

    @app.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
    async def metrics() -> Response:
        """Counters in Prometheus' format."""
        return desk.metrics.response()


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    return error.response(request.url.path)


async def _failed(request: Request, error: Exception) -> Response:
    assert isinstance(error, DSparkError)
    return Refusal.of(error).response(request.url.path)


async def _malformed(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return malformed(error.errors()).response(request.url.path)


async def _not_here(request: Request, error: Exception) -> Response:
    """No such path, no such method, a body that cannot be read."""
    assert isinstance(error, HTTPException)
    if error.status_code == HTTPStatus.NOT_FOUND:
        known = request.app.openapi()["paths"]
        return unknown(request.url.path, known).response(request.url.path)
    return Refusal(error.status_code, error.detail, code="invalid").response(request.url.path, error.headers)


async def _bug(request: Request, error: Exception) -> Response:
    _logger.error("a request failed", exc_info=error)
    text = "a bug of ours, please report it"
    return Refusal(HTTPStatus.INTERNAL_SERVER_ERROR, text, code="bug").response(request.url.path)
