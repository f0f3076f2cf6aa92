"""What went wrong, in the shape of the protocol that was spoken.

OpenAI's: `{"error": {"message", "type", "param", "code"}}`.
Anthropic's: `{"type": "error", "error": {"type", "message"}}`.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from fastapi.responses import JSONResponse

from dspark_local.errors import ClosedError, ContextError, DSparkError, QueueFullError, UsageError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

MESSAGES = "/v1/messages"  # paths that begin so speak Anthropic's protocol
RETRY = 1  # seconds after which a client that found no room may try again
OVERLOADED = 529  # Anthropic's own status
_ANTHROPIC = {
    HTTPStatus.BAD_REQUEST: "invalid_request_error",
    HTTPStatus.UNAUTHORIZED: "authentication_error",
    HTTPStatus.FORBIDDEN: "permission_error",
    HTTPStatus.NOT_FOUND: "not_found_error",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "request_too_large",
    HTTPStatus.SERVICE_UNAVAILABLE: "overloaded_error",
    HTTPStatus.GATEWAY_TIMEOUT: "timeout_error",
}


class Refusal(Exception):  # noqa: N818 - it is an answer too
    """A request that gets no answer: an HTTP status, a code for programs and a line for people."""

    def __init__(
        self, status: int, message: str, *, code: str | None = None, param: str | None = None, retry: int | None = None
    ) -> None:
        """`param` names the field at fault; `retry`: seconds after which another try makes sense."""
        super().__init__(message)
        self.status = status
        self.code = code
        self.param = param
        self.retry = retry

    @classmethod
    def of(cls, error: DSparkError) -> Refusal:
        """What an error of the library is to a client."""
        if isinstance(error, ContextError):
            return cls(HTTPStatus.BAD_REQUEST, str(error), code="context_length_exceeded")
        if isinstance(error, UsageError):
            return cls(HTTPStatus.BAD_REQUEST, str(error), code=error.code)
        if isinstance(error, QueueFullError):
            return cls(HTTPStatus.SERVICE_UNAVAILABLE, str(error), code=error.code, retry=RETRY)
        if isinstance(error, ClosedError):
            return cls(HTTPStatus.SERVICE_UNAVAILABLE, str(error), code=error.code)
        return cls(HTTPStatus.INTERNAL_SERVER_ERROR, str(error), code=error.code)

    def body(self, path: str) -> dict[str, Any]:
        """The error as the protocol of this path has it."""
        message = str(self).encode("utf-8", "replace").decode()
        if path.startswith(MESSAGES):
            usual = "invalid_request_error" if self.status < HTTPStatus.INTERNAL_SERVER_ERROR else "api_error"
            return {
                "type": "error",
                "error": {"type": _ANTHROPIC.get(HTTPStatus(self.status), usual), "message": message},
            }
        kind = "invalid_request_error" if self.status < HTTPStatus.INTERNAL_SERVER_ERROR else "server_error"
        kind = "authentication_error" if self.status == HTTPStatus.UNAUTHORIZED else kind
        return {"error": {"message": message, "type": kind, "param": self.param, "code": self.code}}

    def response(self, path: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
        """The error as a response."""
        status = int(self.status)
        if path.startswith(MESSAGES) and status == HTTPStatus.SERVICE_UNAVAILABLE:
            status = OVERLOADED
        given = dict(headers or {})
        if self.retry is not None:
            given["retry-after"] = str(self.retry)
        if status == HTTPStatus.UNAUTHORIZED:
            given["www-authenticate"] = "Bearer"
        return JSONResponse(self.body(path), status, given)


def malformed(errors: Sequence[Mapping[str, Any]]) -> Refusal:
    """What validation found, in one line, by the fields' names."""
    if errors[0]["type"] == "json_invalid":
        why = f"the body is not JSON: {errors[0]['ctx']['error']} at character {errors[0]['loc'][-1]}"
        return Refusal(HTTPStatus.BAD_REQUEST, why, code="invalid")
    if errors[0]["loc"] == ("body",):
        why = "the body is no JSON object, or is not sent as one: it needs Content-Type: application/json"
        return Refusal(HTTPStatus.BAD_REQUEST, why, code="invalid")
    found = [(".".join(str(part) for part in e["loc"][1:] if _is_field(part)), e["msg"]) for e in errors]
    lines = dict.fromkeys(f"{where}: {what}" if where else what for where, what in found)
    return Refusal(HTTPStatus.BAD_REQUEST, "; ".join(lines), code="invalid", param=found[0][0] or None)


def _is_field(part: str | int) -> bool:
    """Fields and indices, not the types that a union has tried."""
    return isinstance(part, int) or (part.islower() and part.isidentifier() and part not in ("str", "bool"))


def unknown(path: str, known: Collection[str]) -> Refusal:
    """Of a path that is not there; the one that was meant, if a client's base URL has a part too many or too few."""
    meant = next((k for k in known if path.endswith(k) or k == f"/v1{path.rstrip('/')}"), None)
    hint = f"{meant} is: look at the client's base URL" if meant else "/openapi.json lists what is"
    return Refusal(HTTPStatus.NOT_FOUND, f"{path} is not served here; {hint}", code="unknown_url")
