"""Timed decodes of a pair that has nothing else to do: what the first look at a machine asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dspark_local.backend.base import Block, Features, Span, alike

if TYPE_CHECKING:
    from dspark_local.backend.base import Draft, Floats, Target

_STRIDE = 7919  # tokens unlike each other: equal ones would wake the same experts of a mixture


class Timing:
    """Seconds of single decodes by rows, each of which leaves the caches empty.

    `width` is the most rows of a slot in a round; `padded` decodes so many in every slot, as fixed-width mode does,
    however many are asked for.
    """

    def __init__(self, target: Target, draft: Draft | None, *, width: int, padded: bool = False) -> None:
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
        for together in alike(spans, self._target):
            self._hidden = self._target.decode(together)[0].hidden
        for span in spans:
            self._target.rewind(span.slot, 0)
        return self._target.busy - began

    def draft(self, rows: int) -> float:
        """A draft of `rows` tokens: one block if it holds them, else the fewest of one length."""
        assert self._draft is not None
        n = next(n for n in range(1, rows + 1) if rows % n == 0 and rows // n <= self._draft.block_size)
        began = self._draft.busy
        self._draft.draft([Block(slot, 0, slot, whole=False) for slot in range(n)], rows // n)
        return self._draft.busy - began

    def inject(self, rows: int) -> float:
        """An injection of hidden states that the target really had."""
        assert self._draft is not None
        assert self._hidden is not None
        began = self._draft.busy
        self._draft.inject([Features(0, 0, np.resize(self._hidden, (rows, self._hidden.shape[1])))])
        seconds = self._draft.busy - began
        self._draft.rewind(0, 0)
        return seconds


class ChainTiming(Timing):
    """The same where a small model drafts token by token, or nothing but the text does, which takes no time."""

    def __init__(self, target: Target, small: Target | None, *, width: int, padded: bool = False) -> None:
        super().__init__(target, None, width=width, padded=padded)
        self._small = small

    def draft(self, rows: int) -> float:
        """A chain of so many tokens, in as few decodes as the slots allow."""
        if self._small is None:
            return 0.0
        n = next(n for n in range(min(rows, self._small.n_slots), 0, -1) if rows % n == 0)
        began = self._small.busy
        for k in range(rows // n):
            self._small.decode([Span(slot, k, [k]) for slot in range(n)])
        for slot in range(n):
            self._small.rewind(slot, 0)
        return self._small.busy - began

    def inject(self, rows: int) -> float:
        """Committed tokens on their way into the small model's cache."""
        if self._small is None:
            return 0.0
        began = self._small.busy
        self._small.decode([Span(0, 0, [0] * rows, outputs=0)])
        self._small.rewind(0, 0)
        return self._small.busy - began
