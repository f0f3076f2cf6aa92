"""A scaled target in another of llama.cpp's types, by way of F16: its weights are rounded twice, its cost is true."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from gguf import GGMLQuantizationType

from dspark_local.backend.quantise import quantise
from dspark_local.convert.copying import copy_keys, copy_tensor
from dspark_local.convert.writer import Planned, floats, write
from dspark_local.formats.gguf import GGUF
from dspark_local.loading import default_threads

if TYPE_CHECKING:
    from pathlib import Path

_QUANTISED = ("Q4_0", "Q8_0")  # what scaled pairs are made of


def requantise(source: Path, out: Path, recipe: str) -> None:
    """Write `source`, whose matrices are Q4_0 and Q8_0, as llama.cpp's `recipe`."""
    print(f"quantising {source.name} to {recipe}", file=sys.stderr)
    gguf = GGUF.open(source)
    plain, beside = out.with_suffix(".f16"), out.with_suffix(".new")
    try:
        tensors = [_plain(gguf, name) for name in gguf.tensors]
        write(plain, gguf.arch, lambda writer: copy_keys(gguf, writer), tensors, None)
        quantise(plain, beside, recipe, threads=default_threads())
        beside.replace(out)
    finally:
        plain.unlink(missing_ok=True)
        beside.unlink(missing_ok=True)


def _plain(gguf: GGUF, name: str) -> Planned:
    info = gguf.tensors[name]
    if info.type.name not in _QUANTISED:
        return copy_tensor(gguf, name)
    return floats(name, info.shape[::-1], GGMLQuantizationType.F16, lambda rows: gguf.rows(name, rows))
