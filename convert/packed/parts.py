"""Parts of a packed module, as they lie in the checkpoint: codes, scales, zeros and groups, checked and mapped."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dspark_local.convert.packed.blocks import BLOCK, nibbles
from dspark_local.errors import ConvertError

if TYPE_CHECKING:
    import numpy.typing as npt

    from dspark_local.convert.checkpoint import Checkpoint, Floats

WORD = 8  # codes in 32 bits
FLOATS, INTS, BYTES = ("F16", "BF16", "F32"), ("I32",), ("U8", "I8")
IN_ORDER = tuple(range(WORD))  # nibble of each of eight neighbours
_TYPES = {  # types and numbers of dimensions that a part may have
    "qweight": (INTS, (2,)),
    "qzeros": (INTS, (2,)),
    "scales": (FLOATS, (2,)),
    "g_idx": (INTS, (1,)),
    "weight": ((*BYTES, "F8_E4M3"), (2,)),
    "scale": (("F8_E8M0", "U8"), (2,)),
    "weight_packed": ((*INTS, *BYTES), (2,)),
    "weight_scale": ((*FLOATS, *BYTES, "F8_E4M3", "F8_E8M0"), (2,)),
    "weight_shape": (("I64", "I32"), (1,)),
    "weight_zero_point": (INTS, (2,)),
    "weight_g_idx": (INTS, (1,)),
    "weight_scale_2": (("F32",), (0, 1)),
    "weight_global_scale": (("F32",), (0, 1)),
}


@dataclass(frozen=True, slots=True)
class Module:
    """One packed module: its name in the tables, and the checkpoint's names of its parts, by their ends."""

    checkpoint: Checkpoint
    name: str
    parts: dict[str, str]

    def map(self, part: str) -> npt.NDArray[Any]:
        """A part, of the type and dimensions that it must have. Raises ConvertError."""
        if part not in self.parts:
            raise ConvertError(f"{self.checkpoint.folder} lacks {self.name}.{part}; the checkpoint is not whole")
        stored = self.checkpoint.tensors[self.parts[part]]
        types, dims = _TYPES[part]
        if stored.dtype not in types or len(stored.shape) not in dims or 0 in stored.shape:
            raise ConvertError(
                f"{self.name}.{part} is {stored.dtype} {list(stored.shape)}, which it cannot be; is it damaged?"
            )
        return self.checkpoint.map(self.parts[part])

    def dtype(self, part: str) -> str:
        """What the checkpoint calls the type of a part that is there."""
        return self.checkpoint.tensors[self.parts[part]].dtype

    def expect(self, *fits: bool) -> None:
        """Raise ConvertError unless all of it is true."""
        if not all(fits):
            raise ConvertError(f"codes, scales and zeros of {self.name} do not fit together; the checkpoint is damaged")

    def groups(self, n_in: int, size: int, part: str = "g_idx") -> npt.NDArray[np.int64]:
        """The group of every input. Raises ConvertError."""
        if n_in == 0 or n_in % BLOCK:
            raise ConvertError(f"rows of {self.name} have {n_in} numbers, not a multiple of {BLOCK}")
        if part not in self.parts:
            return np.arange(n_in) // (size if size > 0 else n_in)
        groups = np.asarray(self.map(part)).astype(np.int64)
        self.expect(groups.shape == (n_in,), groups.min() >= 0)
        return groups

    def floats(self, part: str, raw: npt.NDArray[Any]) -> Floats:
        """Numbers of a part of floats as float32."""
        if self.dtype(part) == "BF16":
            return (raw.astype(np.uint32) << 16).view(np.float32)
        return raw.astype(np.float32)


def is_integer(array: npt.NDArray[Any], width: int) -> bool:
    """Whether the numbers are integers, or bits, of so many bytes."""
    return bool(array.dtype.kind in "iu" and array.dtype.itemsize == width)


def columns(words: npt.NDArray[Any], wanted: slice, order: tuple[int, ...] = IN_ORDER) -> npt.NDArray[np.int64]:
    """Columns of what is packed eight to a word along the columns."""
    first, last = wanted.start // WORD, -(-wanted.stop // WORD)
    codes = nibbles(np.ascontiguousarray(words[:, first:last]), order)
    return codes[:, wanted.start - first * WORD : wanted.stop - first * WORD].astype(np.int64)
