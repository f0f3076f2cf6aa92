"""Which piece of a text came from the drafter: rounds count tokens, the screen shows characters."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from enum import StrEnum
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING

from dspark_local.chat import Reasoning

if TYPE_CHECKING:
    from collections.abc import Callable

    from dspark_local.types import Round


class Origin(StrEnum):
    """Who proposed a token that the target would have written either way."""

    DRAFTED = "drafted"  # and accepted
    OWN = "own"  # the target's
    UNKNOWN = "unknown"  # written when nobody looked: kept from before


Runs = Sequence[tuple[str, Origin]]


class Origins:
    """Takes rounds in, and tells the origins of the text that came of them.

    A character belongs to the token that completes it. `thinking`: whether the text begins within thoughts.
    """

    def __init__(self, piece: Callable[[int], bytes], *, thinking: bool = False) -> None:
        self._piece = piece
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._text = ""  # that was not taken yet
        self._of: list[Origin] = []  # for each of its characters
        tags = Reasoning().opening, Reasoning().closing
        self._tag, self._next_tag = reversed(tags) if thinking else tags

    def tell(self, record: Round) -> None:
        """The next round: its first `accepted` tokens were drafted."""
        for n, token in enumerate(record.tokens):
            text = self._decoder.decode(self._piece(token))
            self._text += text
            self._of += [Origin.DRAFTED if n < record.accepted else Origin.OWN] * len(text)

    def take(self, text: str) -> Runs:
        """Runs of one origin that make up the next `text` of the answer, or of what is thought; tags are no text."""
        while self._text.startswith(self._tag):
            self._drop(len(self._tag))
            self._tag, self._next_tag = self._next_tag, self._tag
        origins = self._of[: len(text)]
        origins += [origins[-1] if origins else Origin.OWN] * (len(text) - len(origins))  # half a character at the end
        self._drop(len(text))
        return merged(list(zip(text, origins, strict=True)))

    def _drop(self, n: int) -> None:
        self._text, self._of = self._text[n:], self._of[n:]


def merged(runs: Runs) -> Runs:
    """The same text in as few runs as there are changes of origin."""
    groups = groupby(runs, key=itemgetter(1))
    return [("".join(text for text, _ in group), origin) for origin, group in groups]
