"""From an application to a process that listens."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import uvicorn

from dspark_local.errors import UsageError

if TYPE_CHECKING:
    from fastapi import FastAPI

    from dspark_local.server.limits import Limits

_MOST_CONNECTIONS = 1024


def bound(host: str, port: int) -> socket.socket:
    """A socket that listens; port 0 takes a free one. Raises UsageError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=_MOST_CONNECTIONS)
    except (OSError, OverflowError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise UsageError(f"cannot listen on {host} port {port}: {why}; choose another --host or --port") from None


def server(app: FastAPI, limits: Limits) -> uvicorn.Server:
    """A server whose `run(sockets=…)` returns when it was told to stop and answers have ended or had their time."""
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        http="h11",  # what is tested, whatever else is installed
        loop="asyncio",
        lifespan="off",
        ws="none",
        timeout_graceful_shutdown=round(limits.grace),
        limit_concurrency=_MOST_CONNECTIONS,
    )
    return uvicorn.Server(config)
