"""Every family: converted, run by llama.cpp, and compared with the function that its checkpoint is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from dspark_local.backend.base import Span
from dspark_local.backend.llama import LlamaTarget, Shape
from dspark_local.backend.model import Model as Weights
from dspark_local.convert import convert_target
from dspark_local.formats.inspection import inspect_files
from tests.convert.families import CONFIGS, VOCAB, Model

if TYPE_CHECKING:
    from pathlib import Path

TOKENS = [int(t) for t in np.random.default_rng(3).integers(0, VOCAB - 10, 40)]


def logits_of(path: Path, tokens: list[int]) -> np.ndarray:
    inspect_files(path)
    model = LlamaTarget(Weights(path), Shape(n_ctx=256, width=len(tokens), threads=1))
    try:
        return model.decode([Span(0, 0, tokens)])[0].logits.copy()
    finally:
        model.close()


@pytest.mark.parametrize("family", CONFIGS)
def test_llama_cpp_computes_what_the_checkpoint_says(tmp_path: Path, family: str) -> None:
    """Logits of 40 tokens, more than a window and than the pretraining's rope, agree to F16's accuracy."""
    model = Model(family, CONFIGS[family])
    path = convert_target(model.write(tmp_path / "src"), tmp_path / "t.gguf", type="F16")
    expected = model.forward(TOKENS)
    error = np.sqrt(((logits_of(path, TOKENS) - expected) ** 2).mean() / (expected**2).mean())
    assert error < 0.005, error
