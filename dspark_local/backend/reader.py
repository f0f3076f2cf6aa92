"""Texts read again: the inputs of chosen layers, and the state that the head sees, of every token."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dspark_local.backend.library import api
from dspark_local.backend.memory import Batch, floats
from dspark_local.backend.model import Context, context_params
from dspark_local.backend.taps import taps_for

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dspark_local.backend.base import Floats
    from dspark_local.backend.model import Model

N_READ = 256  # tokens of a decode; all of them have logits, which a large vocabulary makes wide


class Reader:
    """A context that generates nothing: it shows what a target makes of a text. Texts of `n_ctx` tokens at most."""

    def __init__(self, model: Model, *, layers: tuple[int, ...], n_ctx: int, threads: int) -> None:
        params = context_params(
            n_ctx=n_ctx, n_slots=1, n_batch=N_READ, n_outputs=N_READ, threads=threads, unified=True
        )
        params.embeddings = True
        self._taps = taps_for(model.arch, layers, model.n_embd)
        self._taps.prepare(params)
        self._context = Context(model, params)
        self._taps.attach(self._context.pointer)
        self._model = model
        self._batch = Batch(self._context.n_batch)
        self.n_ctx: int = api.llama_n_ctx(self._context.pointer)

    def read(self, tokens: Sequence[int]) -> tuple[Floats, Floats]:
        """Layer inputs [n, taps · width], and states after the last norm [n, width].

        Each text is read by itself, in decodes whose sizes its length alone decides: the same text gives the same rows.
        """
        tapped, final = [], []
        for start in range(0, len(tokens), self._context.n_batch):
            part = tokens[start : start + self._context.n_batch]
            self._decode(start, part)
            tapped.append(self._taps.rows(len(part)))
            pointer = api.llama_get_embeddings(self._context.pointer)
            final.append(floats(pointer, len(part), self._model.n_embd).copy())
        self._context.rewind(0, 0)
        return np.concatenate(tapped), np.concatenate(final)

    def logits(self, tokens: Sequence[int]) -> Floats:
        """What the head makes of them [n, n_vocab], for at most one decode's tokens."""
        self._decode(0, tokens)
        logits = floats(api.llama_get_logits(self._context.pointer), len(tokens), self._model.n_vocab).copy()
        self._context.rewind(0, 0)
        return logits

    def _decode(self, start: int, tokens: Sequence[int]) -> None:
        self._batch.clear()
        self._batch.add(0, start, tokens)
        self._taps.begin()
        self._context.decode(self._batch)

    def close(self) -> None:
        """Free the context; the weights are the caller's."""
        self._context.close()
