"""Real pairs in real llama.cpp, for tests."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from dspark_local.backend.llama import LlamaDraft, LlamaTarget, Shape
from dspark_local.backend.model import Model
from dspark_local.formats.inspection import Inspection, inspect_files

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def opened(target: Path, draft: Path, shape: Shape) -> Iterator[tuple[LlamaTarget, LlamaDraft, Inspection]]:
    """Both models, closed in the order that llama.cpp wants."""
    files = inspect_files(target, draft)
    assert files.spec
    model = LlamaTarget(Model(target), shape, layers=files.spec.target_layers)
    drafter = LlamaDraft(Model(draft), model, files.spec, shape)
    try:
        yield model, drafter, files
    finally:
        drafter.close()
        model.close()
