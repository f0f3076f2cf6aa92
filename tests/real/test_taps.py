"""Both ways to tap give the same rows, in prefill and in a round, for one sequence and for several."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dspark_local.backend import taps
from dspark_local.backend.base import Shape, Span
from dspark_local.backend.llama import LlamaTarget
from dspark_local.backend.model import Model
from tests.formats import tiny

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

SPANS = [
    [Span(0, 0, list(b"a prompt of some length"), outputs=0)],
    [Span(1, 0, list(b"another"), outputs=0)],
    [Span(0, 23, [1, 2, 3]), Span(1, 7, [4])],
]


def rows(path: Path) -> list[np.ndarray]:
    target = LlamaTarget(Model(path), Shape(n_ctx=256, n_slots=2, width=4), layers=(1,))
    try:
        return [row.hidden for spans in SPANS for row in target.decode(spans) if row.hidden is not None]
    finally:
        target.close()


def test_the_callback_reads_what_the_taps_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bit for bit: `l_out-(k-1)` is the input of layer k."""
    path = tiny.target().write(tmp_path / "t.gguf")
    built_in = rows(path)
    monkeypatch.setattr(taps, "BUILT_IN", frozenset())
    callback = rows(path)
    assert [r.shape for r in built_in] == [(23, tiny.N_EMBD), (7, tiny.N_EMBD), (3, tiny.N_EMBD), (1, tiny.N_EMBD)]
    for a, b in zip(built_in, callback, strict=True):
        np.testing.assert_array_equal(a, b)
