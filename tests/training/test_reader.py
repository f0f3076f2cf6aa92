"""What the target shows of a text is what the paper's forward pass gives, by either way to tap."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from dspark_local.backend import taps
from dspark_local.backend.model import Model
from dspark_local.backend.reader import N_READ, Reader
from dspark_local.errors import TrainingError
from dspark_local.formats.gguf import GGUF
from dspark_local.training.states import check_head
from dspark_local.training.target import TargetFile
from tests.formats import tiny
from tests.real.test_reference import close
from tests.reference.forward import TargetReference

if TYPE_CHECKING:
    from pathlib import Path

TEXT = list(b"A text that is read in more than one decode. " * 8)


@pytest.mark.parametrize("built_in", [True, False])
def test_states_are_the_references(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, built_in: bool) -> None:
    """Layer inputs, final states, and logits as the dequantised head makes them; twice the same to the bit."""
    if not built_in:
        monkeypatch.setattr(taps, "BUILT_IN", frozenset())
    path = tiny.target(untied=True, kind=tiny.F16).write(tmp_path / "t.gguf")
    inputs, logits = TargetReference(GGUF.open(path)).forward(TEXT)
    model, target = Model(path), TargetFile.open(path)
    reader = Reader(model, layers=(1,), n_ctx=len(TEXT), threads=1)
    try:
        assert len(TEXT) > N_READ
        tapped, final = reader.read(TEXT)
        close(tapped, inputs[1], 0.005)
        close(target.logits(final), logits, 0.005)
        again = reader.read(TEXT)
        np.testing.assert_array_equal(tapped, again[0])
        np.testing.assert_array_equal(final, again[1])
        check_head(reader, target.logits, TEXT[:64])
        with pytest.raises(TrainingError, match="off by"):
            check_head(reader, lambda states: 2 * target.logits(states), TEXT[:64])
    finally:
        reader.close()
        model.close()


def test_embeddings_are_the_files_rows(tmp_path: Path) -> None:
    target = TargetFile.open(tiny.target().write(tmp_path / "t.gguf"))
    ids = np.array([[5, 5], [7, 0]])
    rows = target.gguf.rows("token_embd.weight", ids.ravel())
    np.testing.assert_array_equal(target.embed(ids), rows.reshape(2, 2, -1))
