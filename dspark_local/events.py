"""What a generation tells its reader, in order: text, calls and rounds, then one Finish."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dspark_local.types import FinishReason, Round, Stats, TokenLogprobs


@dataclass(frozen=True, slots=True)
class Text:
    """A piece of the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class Thinking:
    """A piece of what the model thinks before it answers."""

    text: str


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A function that the model wants called: `arguments` are a JSON object as text, `id` tells calls apart.

    It comes whole, once it can be read.
    """

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class RoundDone:
    """What a round did, and the sums so far. Its text came before it, as far as the tokens made it certain."""

    round: Round
    stats: Stats


@dataclass(frozen=True, slots=True)
class Finish:
    """The end: why, the whole answer, its tokens, and the sums; `logprobs` of each token, if they were asked for.

    `text` is the answer without thinking and calls; `stop` is the stop string that ended it.
    """

    reason: FinishReason
    text: str
    tokens: tuple[int, ...]
    stats: Stats
    logprobs: tuple[TokenLogprobs, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()
    stop: str | None = None


Event = Text | Thinking | ToolCall | RoundDone | Finish
