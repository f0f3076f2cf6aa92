"""Timed decodes of a pair that has nothing else to do: what the first look at a machine asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dspark_local.backend.base import Block, Features, Span

if TYPE_CHECKING:
    from dspark_local.backend.base import Draft, Floats, Target

_STRIDE = 7919  # tokens unlike each other: equal ones would wake the same experts of a mixture


class Timing:
    """Seconds of single decodes by rows, each of which leaves the caches empty.

    `width` is the most rows of a slot in a round; `padded` decodes so many in every slot, as fixed-width mode does,
    however many are asked for.
    """

    def __init__(self, target: Target, draft: Draft, *, width: int, padded: bool = False) -> None:
        self._target, self._draft = target, draft
        self._width, self._padded = width, padded
        self._hidden: Floats | None = None
        self.decode(width)  # the first one reads the weights in

    def decode(self, rows: int) -> float:
        """A target decode."""
        if self._padded:
            rows = self._width * self._target.n_slots
        tokens = [i * _STRIDE % self._target.n_vocab for i in range(rows)]
        spans = [Span(i // self._width, 0, tokens[i : i + self._width]) for i in range(0, rows, self._width)]
        began = self._target.busy
        found = self._target.decode(spans)
        self._hidden = found[0].hidden
        for span in spans:
            self._target.rewind(span.slot, 0)
        return self._target.busy - began

    def draft(self, rows: int) -> float:
        """A draft of `rows` tokens: one block if it holds them, else the fewest of one length."""
        n = next(n for n in range(1, rows + 1) if rows % n == 0 and rows // n <= self._draft.block_size)
        began = self._draft.busy
        self._draft.draft([Block(slot, 0, slot) for slot in range(n)], rows // n)
        return self._draft.busy - began

    def inject(self, rows: int) -> float:
        """An injection of hidden states that the target really had."""
        assert self._hidden is not None
        began = self._draft.busy
        self._draft.inject([Features(0, 0, np.resize(self._hidden, (rows, self._hidden.shape[1])))])
        seconds = self._draft.busy - began
        self._draft.rewind(0, 0)
        return seconds
