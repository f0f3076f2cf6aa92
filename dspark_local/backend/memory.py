"""Arrays over llama.cpp's memory, and batches over ours."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any

import numpy as np

from dspark_local.backend.library import api

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dspark_local.backend.base import Floats


def floats(pointer: Any, rows: int, width: int) -> Floats:  # noqa: ANN401 - a ctypes pointer
    """View [rows, width] of what a float pointer points at."""
    if not rows:
        return np.empty((0, width), np.float32)
    buffer: Any = (ctypes.c_float * (rows * width)).from_address(ctypes.addressof(pointer.contents))
    view: Floats = np.frombuffer(buffer, np.float32).reshape(rows, width)
    return view


class Batch:
    """A llama_batch over arrays of our own: tokens, or embeddings of `width` floats, for at most `n` rows."""

    def __init__(self, n: int, *, width: int = 0) -> None:
        self._token = np.zeros(n, np.int32)
        self._embd = np.zeros((n, width), np.float32)
        self._pos = np.zeros(n, np.int32)
        self._n_seq_id = np.ones(n, np.int32)
        self._seq = np.zeros(n, np.int32)
        self._seq_id = self._seq.ctypes.data + 4 * np.arange(n, dtype=np.uint64)
        self._logits = np.zeros(n, np.int8)
        self.spans: list[tuple[int, int, int]] = []  # slot, first position, rows
        fields = {field[0]: field[1] for field in api.llama_batch._fields_}

        def at(name: str, array: np.ndarray[Any, Any]) -> Any:  # noqa: ANN401 - a ctypes pointer
            kind: Any = fields[name]
            return ctypes.cast(array.ctypes.data, kind)

        self.struct = api.llama_batch(
            n_tokens=0,
            token=None if width else at("token", self._token),
            embd=at("embd", self._embd) if width else None,
            pos=at("pos", self._pos),
            n_seq_id=at("n_seq_id", self._n_seq_id),
            seq_id=at("seq_id", self._seq_id),
            logits=at("logits", self._logits),
        )

    def clear(self) -> None:
        """Start over."""
        self.struct.n_tokens = 0
        self.spans.clear()

    def add(self, slot: int, start: int, rows: Sequence[int] | Floats, *, outputs: int | None = None) -> None:
        """Append consecutive rows of one slot, tokens or embeddings [n, width], with outputs of the last or of all."""
        a = self.struct.n_tokens
        b = a + len(rows)
        assert b <= len(self._pos), "the batch is full"
        if self.struct.token:
            self._token[a:b] = rows
        else:
            self._embd[a:b] = rows
        self._pos[a:b] = np.arange(start, start + len(rows))
        self._seq[a:b] = slot
        self._logits[a:b] = outputs is None
        if outputs:
            self._logits[b - outputs : b] = True
        self.spans.append((slot, start, len(rows)))
        self.struct.n_tokens = b
