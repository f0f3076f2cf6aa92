"""What the published OpenAPI says of the responses to a request for an answer."""

from __future__ import annotations

from typing import Any

_ERROR = {"application/json": {"schema": {"type": "object"}}}

ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The answer; as events, if `stream` is true.",
        "content": {
            "application/json": {"schema": {"type": "object"}},
            "text/event-stream": {"schema": {"type": "string"}},
        },
    },
    "4XX": {"description": "The request is at fault.", "content": _ERROR},
    "5XX": {
        "description": "The server is, or has no room; Retry-After then says when to try again.",
        "content": _ERROR,
    },
}
