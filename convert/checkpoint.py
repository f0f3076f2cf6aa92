"""A checkpoint folder as the hub has it: config.json, and safetensors in one file or in shards."""

from __future__ import annotations

import json
import math
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dspark_local.errors import ConvertError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Floats = npt.NDArray[np.float32]

_DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4",
           "U8": "u1", "I8": "i1", "BOOL": "u1", "F8_E4M3": "u1", "F8_E8M0": "u1"}  # fmt: skip
_BITS = {"F32": "<u4", "F16": "<u2", "BF16": "<u2"}
_MAGNITUDES = {"F32": 0x7FFFFFFF, "F16": 0x7FFF, "BF16": 0x7FFF}
_INFINITIES = {"F32": 0x7F800000, "F16": 0x7C00, "BF16": 0x7F80}  # and NaN is above, but for the sign
_MAX_HEADER = 100_000_000  # the format's own limit
_AT_A_TIME = 1 << 20  # numbers held in memory, however large the tensor: little enough for a cache
ALL = slice(None)


@dataclass(frozen=True, slots=True)
class Stored:
    """Where a tensor lies: file, type, shape, and the bytes [begin, end) of the file."""

    path: Path
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


def published_name(folder: Path) -> str:
    """What a checkpoint is called: as its folder; in the hub's cache, whose folders are commits, as its repository."""
    folder = folder.resolve()
    storage = folder.parent.parent.name
    cached = folder.parent.name == "snapshots" and storage.startswith("models--")
    return storage.rpartition("--")[2] if cached else folder.name


class Checkpoint:
    """Config and tensors of a folder; rows are read when they are asked for, and nothing is kept.

    `absent` are tensors whose shards are not there, and the shards. Raises ConvertError for a folder that is not a
    checkpoint, or a file cut short.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.name = folder, published_name(folder)
        self.config: dict[str, Any] = self.json("config.json")
        self.tensors: dict[str, Stored] = {}
        self.absent: dict[str, str] = {}
        for path in self._shards():
            for name, stored in _header(path).items():
                if name in self.tensors:
                    raise ConvertError(f"{path.name}: tensor {name} is there twice; the checkpoint is damaged")
                self.tensors[name] = stored

    def json(self, name: str, *, required: bool = True) -> dict[str, Any]:
        """A JSON object of the folder; empty if it is missing and not required."""
        path = self.folder / name
        try:
            value = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            if not required:
                return {}
            raise ConvertError(f"{self.folder} has no {name}; give the folder of a checkpoint") from None
        except (OSError, ValueError) as error:
            raise ConvertError(f"{path} cannot be read: {error}") from error
        if not isinstance(value, dict):
            raise ConvertError(f"{path} is not a JSON object; the checkpoint is damaged")
        return value

    def _shards(self) -> list[Path]:
        index = self.json("model.safetensors.index.json", required=False)
        files = index.get("weight_map") if index else {"": "model.safetensors"}
        if not isinstance(files, dict) or not files or not all(isinstance(name, str) for name in files.values()):
            raise ConvertError(f"{self.folder}/model.safetensors.index.json has no weight_map; download it again")
        self.absent = {tensor: name for tensor, name in files.items() if not (self.folder / name).is_file()}
        there = sorted(set(files.values()) - set(self.absent.values()))
        if not there:
            raise ConvertError(f"{self.folder} lacks {min(self.absent.values())}; download the checkpoint again")
        return [self.folder / name for name in there]

    def read(self, name: str, rows: slice = ALL) -> Floats:
        """Rows of a tensor as float32, or all of it.

        Raises ConvertError when they hold a NaN or an infinity, or are no floats.
        """
        stored = self.tensors[name]
        if stored.dtype not in ("F64", "F32", "F16", "BF16"):
            raise ConvertError(f"tensor {name} is of type {stored.dtype}; only plain floats can be converted")
        raw = self.raw(name, rows)
        with np.errstate(over="ignore"):  # a double beyond float32 is an infinity, and refused as one
            wide = (raw.astype(np.uint32) << 16).view(np.float32) if stored.dtype == "BF16" else raw.astype(np.float32)
        values: Floats = wide.reshape(-1, *stored.shape[1:])
        if not np.isfinite(values).all():
            raise ConvertError(f"tensor {name} holds NaN or infinity; the checkpoint is damaged")
        return values

    def same(self, name: str, rows: slice = ALL) -> npt.NDArray[Any]:
        """Rows of a tensor of plain floats as their bits. Raises ConvertError as `read` does."""
        bits = self.raw(name, rows).view(_BITS[self.tensors[name].dtype])
        infinity = _INFINITIES[self.tensors[name].dtype]
        if bits.size and (bits & bits.dtype.type(_MAGNITUDES[self.tensors[name].dtype])).max() >= infinity:
            raise ConvertError(f"tensor {name} holds NaN or infinity; the checkpoint is damaged")
        return bits

    def raw(self, name: str, rows: slice = ALL) -> npt.NDArray[Any]:
        """Rows of a tensor in numpy's type for its own, BF16 and FP8 as their bits.

        Raises ConvertError for a type that is not known, and for a file that changed.
        """
        stored = self.tensors[name]
        if stored.dtype not in _DTYPES:
            raise ConvertError(f"tensor {name} is of type {stored.dtype}, which is not known")
        dtype, width = np.dtype(_DTYPES[stored.dtype]), math.prod(stored.shape[1:])
        start, stop, _ = rows.indices(stored.shape[0] if stored.shape else 1)
        count, offset = (stop - start) * width, stored.begin + start * width * dtype.itemsize
        raw = np.fromfile(stored.path, dtype, count=count, offset=offset)
        if raw.size != count:
            raise ConvertError(f"{stored.path.name} was cut short while it was read")
        return raw.reshape(-1, *stored.shape[1:])

    def map(self, name: str) -> npt.NDArray[Any]:
        """A tensor in its file, to take parts of; types as in `raw`. Raises ConvertError as it does."""
        stored = self.tensors[name]
        if stored.dtype not in _DTYPES:
            raise ConvertError(f"tensor {name} is of type {stored.dtype}, which is not known")
        try:
            return np.memmap(stored.path, _DTYPES[stored.dtype], "r", stored.begin, stored.shape)
        except (OSError, ValueError) as error:
            raise ConvertError(f"tensor {name} of {stored.path.name} cannot be read: {error}") from error


def slabs(shape: tuple[int, ...]) -> Iterator[slice]:
    """Runs of rows that together are all rows, each small enough to hold."""
    step = max(1, _AT_A_TIME // math.prod(shape[1:]))
    return (slice(start, min(start + step, shape[0])) for start in range(0, shape[0], step))


def _header(path: Path) -> dict[str, Stored]:
    """Tensor table of one safetensors file, checked against its size."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            (n,) = struct.unpack("<Q", file.read(8).ljust(8, b"\0"))
            if not len("{}") <= n <= min(size - 8, _MAX_HEADER):
                raise ConvertError(f"{path.name} is not a safetensors file, or was cut short")
            table = json.loads(file.read(n))
        table.pop("__metadata__", None)
        tensors = {name: _stored(path, 8 + n, **entry) for name, entry in table.items()}
    except OSError as error:
        raise ConvertError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise ConvertError(f"{path.name} has a damaged header; download it again") from error
    for name, t in tensors.items():
        if t.end > size:
            raise ConvertError(f"{path.name} is cut short: {t.end - size} bytes of {name} are missing")
        width = np.dtype(_DTYPES[t.dtype]).itemsize if t.dtype in _DTYPES else None
        if width and t.end - t.begin != width * math.prod(t.shape):
            raise ConvertError(f"{path.name}: size and shape of {name} contradict each other")
    return tensors


def _stored(path: Path, base: int, *, dtype: str, shape: list[int], data_offsets: list[int]) -> Stored:
    """One entry of the table. Raises ValueError or TypeError for what the format does not allow."""
    begin, end = data_offsets
    if not isinstance(dtype, str) or not all(isinstance(n, int) and n >= 0 for n in [*shape, begin, end - begin]):
        raise ValueError
    return Stored(path, dtype, tuple(shape), base + begin, base + end)
