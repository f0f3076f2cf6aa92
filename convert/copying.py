"""Keys and tensors of one GGUF file as parts of another, byte by byte."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from gguf import GGMLQuantizationType, GGUFValueType

from dspark_local.convert.writer import Planned

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt
    from gguf import GGUFWriter

    from dspark_local.formats.gguf import GGUF

_PLAIN = {"F32": "<f4", "F16": "<f2", "I64": "<i8"}  # how the writer wants what is no bytes to it
_WRITERS_OWN = ("general.architecture", "general.alignment")  # which GGUFWriter writes by itself


def copy_keys(source: GGUF, writer: GGUFWriter, wanted: Callable[[str], bool] = lambda _key: True) -> None:
    """Add the keys of `source` that are `wanted` to a file; arrays of nothing are left out."""
    for key, entry in source.header.entries.items():
        if key in _WRITERS_OWN or not wanted(key) or not entry.count:
            continue
        kind = GGUFValueType(entry.kind)
        value = list(source.strings(key)) if kind is GGUFValueType.STRING else source.meta(key)
        if entry.is_array:
            writer.add_key_value(key, value, GGUFValueType.ARRAY, sub_type=kind)
        else:
            writer.add_key_value(key, value[0] if isinstance(value, list) else value, kind)


def copy_tensor(source: GGUF, name: str) -> Planned:
    """A tensor of `source` as it is."""
    info = source.tensors[name]
    shape = info.shape[::-1] or (1,)
    kind = GGMLQuantizationType(info.type.number)
    plain = _PLAIN.get(info.type.name, "u1")
    data = np.memmap(source.path, plain, "r", info.offset, (info.nbytes // np.dtype(plain).itemsize,))
    table = data.reshape(*shape[:-1], -1)
    return Planned(name, shape, kind, lambda rows: table[rows])


def copy_rows(source: GGUF, name: str, indices: npt.NDArray[np.int64], *, renamed: str = "") -> Planned:
    """Some rows of a matrix of `source` as they are."""
    info = source.tensors[name]
    stored = source.mapped(name).encoded
    plain = _PLAIN.get(info.type.name, "u1")
    shape = (len(indices), info.shape[0])
    return Planned(
        renamed or name, shape, GGMLQuantizationType(info.type.number), lambda rows: stored[indices[rows]].view(plain)
    )
