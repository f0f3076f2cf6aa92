"""What a server grants its clients."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """`body` bytes and `prompt` tokens of a request; no number of the latter means as many as the context holds.

    How many requests may wait is the runtime's `max_waiting`. An answer may take `seconds` from the request on, and has
    at most `max_tokens` where the request names no number. A client may take nothing of a stream, or send nothing of a
    body, for `stall` seconds. At shutdown, answers may end within `grace` seconds.
    """

    body: int = 8 << 20
    prompt: int | None = None
    seconds: float = 600.0
    stall: float = 30.0
    grace: float = 30.0
    max_tokens: int | None = None
