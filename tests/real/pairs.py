"""Real pairs in real llama.cpp, for tests."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
from gguf import GGUFReader, GGUFValueType, GGUFWriter

from dspark_local.backend.llama import LlamaDraft, LlamaTarget
from dspark_local.backend.model import Model
from dspark_local.formats.gguf import GGUF
from dspark_local.formats.inspection import Inspection, inspect_files

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from dspark_local.backend.base import Shape


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


def as_f16(path: Path, out: Path) -> Path:
    """The same model with its matrices in F16."""
    model = GGUF.open(path)
    writer = GGUFWriter(out, model.arch)
    for field in GGUFReader(path).fields.values():
        if not field.name.startswith(("GGUF.", "general.architecture")):
            inner = field.types[-1] if field.types[0] is GGUFValueType.ARRAY else None
            writer.add_key_value(field.name, field.contents(), field.types[0], inner)
    for name, info in model.tensors.items():
        values = model.rows(name, slice(None)).reshape(info.shape[::-1])
        writer.add_tensor(name, values.astype(np.float16 if len(info.shape) > 1 else np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return out
