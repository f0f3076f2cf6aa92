"""Rows of a matrix in a file: mapped as they are stored, floats when asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from dspark_local.formats.faults import format_fault

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from dspark_local.formats.ggml import GGMLType

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]

# Blocks of 32 weights as ggml-common.h lays them out.
_Q8_0 = np.dtype([("d", "<f2"), ("q", "i1", 32)])
_Q4_0 = np.dtype([("d", "<f2"), ("q", "u1", 16)])


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """`encoded` [n rows, bytes of a row] of type `kind`; index it with row numbers to get [n, row length] floats."""

    path: Path
    kind: GGMLType
    encoded: Bytes

    def __getitem__(self, indices: Sequence[int] | npt.NDArray[np.integer] | slice) -> Floats:
        """Dequantise rows. Raises ModelFormatError if the type has no dequantiser, IndexError as numpy does."""
        encoded = np.ascontiguousarray(self.encoded[indices])
        match self.kind.name:
            case "F32":
                return encoded.view("<f4").astype(np.float32, copy=False)
            case "F16":
                return encoded.view("<f2").astype(np.float32)
            case "Q8_0":
                return _q8_0(encoded)
            case "Q4_0":
                return _q4_0(encoded)
            case _:
                return _any(self.path, self.kind, encoded)

    def dot(self, indices: npt.NDArray[np.integer], vector: Floats) -> Floats:
        """Rows times a vector [row length]: [n].

        A few hundred rows at a time: BLAS would multiply more of them on threads, which a busy machine stalls. Raises
        as indexing does.
        """
        product: Floats
        if self.kind.name != "Q8_0":
            product = np.einsum("nj,j->n", self[indices], vector)
            return product
        encoded = self.encoded.take(indices, axis=0)
        blocks = encoded.view(np.int8).astype(np.float32).reshape(len(encoded), -1, _Q8_0.itemsize)
        weights = blocks[..., _Q8_0.itemsize - 32 :].transpose(1, 0, 2)  # all bytes are turned, which is sooner
        parts = np.matmul(weights, vector.reshape(-1, 32, 1))  # a block is multiplied before it is scaled
        product = np.einsum("bni,nb->n", parts, encoded.view(_Q8_0)["d"].astype(np.float32))
        return product


def _q8_0(encoded: Bytes) -> Floats:
    blocks = encoded.view(_Q8_0)
    values = blocks["q"].astype(np.float32)
    values *= blocks["d"].astype(np.float32)[..., None]
    return values.reshape(len(encoded), -1)


def _q4_0(encoded: Bytes) -> Floats:
    """Weight j of a block is the lower half of byte j, weight 16 + j the upper one."""
    blocks = encoded.view(_Q4_0)
    quants = blocks["q"]
    values = np.concatenate((quants & 15, quants >> 4), axis=-1).astype(np.float32) - np.float32(8)
    values *= blocks["d"].astype(np.float32)[..., None]
    return values.reshape(len(encoded), -1)


def _any(path: Path, kind: GGMLType, encoded: Bytes) -> Floats:
    import gguf  # noqa: PLC0415  # a quarter of a second that most readers of a header need not spend

    try:
        rows: Floats = gguf.quants.dequantize(encoded, gguf.GGMLQuantizationType(kind.number))
    except (ValueError, NotImplementedError):
        raise format_fault(path, f"tensors of type {kind.name} cannot be read row by row") from None
    return np.asarray(rows, np.float32).reshape(len(encoded), -1)
