"""The bytes of a vocabulary's tokens, so that a text stays UTF-8."""

from __future__ import annotations

import codecs
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    Flags = npt.NDArray[np.bool_]

_CONTINUES, _BEGINS = 0x80, 0xC0  # bytes from one to below the other go on with a character


@dataclass(frozen=True, slots=True)
class Spelling:
    """Of each token: its bytes, whether they are whole characters, and whether they begin with the rest of one.

    `hidden` tokens show no text and end nothing.
    """

    pieces: list[bytes]
    whole: Flags
    goes_on: Flags
    hidden: Flags

    @classmethod
    def of(cls, n_vocab: int, piece: Callable[[int], bytes], is_end: Callable[[int], bool]) -> Spelling:
        """Of all tokens, whose bytes `piece` gives."""
        pieces = [piece(token) for token in range(n_vocab)]
        firsts = np.array([p[0] if p else 0 for p in pieces], np.uint8)
        return cls(
            pieces,
            np.array([rest(p) == b"" for p in pieces]),
            (firsts >= _CONTINUES) & (firsts < _BEGINS),
            np.array([not p and not is_end(token) for token, p in enumerate(pieces)]),
        )

    def follow(self, pending: bytes, tokens: npt.NDArray[np.int64]) -> Flags:
        """Whether each token may follow a character's beginning `pending`, or nothing."""
        fits = ~self.hidden[tokens]
        if pending:
            fits &= self.goes_on[tokens]
        doubtful = np.flatnonzero(fits if pending else fits & ~self.whole[tokens])
        fits[doubtful] = [rest(pending + self.pieces[token]) is not None for token in tokens[doubtful]]
        return fits


def rest(text: bytes) -> bytes | None:
    """The character that these bytes begin last and do not end; None if they are not UTF-8."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        decoder.decode(text)
    except UnicodeDecodeError:
        return None
    return decoder.getstate()[0]
