"""A checkpoint folder as the hub has it: config.json, and safetensors in one file or in shards."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dspark_local.errors import ConvertError

if TYPE_CHECKING:
    from pathlib import Path

Floats = npt.NDArray[np.float32]

_DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4"}
_MAX_HEADER = 100_000_000  # the format's own limit


@dataclass(frozen=True, slots=True)
class Stored:
    """Where a tensor lies: file, type, shape, and the bytes [begin, end) of the file."""

    path: Path
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


class Checkpoint:
    """Config and tensors of a folder; a tensor is read when it is asked for, and nothing is kept.

    Raises ConvertError for a folder that is not a checkpoint, a missing shard, or a file cut short.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config: dict[str, Any] = self.json("config.json")
        self.tensors: dict[str, Stored] = {}
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
        names = sorted(set(index["weight_map"].values())) if index else ["model.safetensors"]
        for name in names:
            if not (self.folder / name).is_file():
                raise ConvertError(f"{self.folder} lacks {name}; download the checkpoint again")
        return [self.folder / name for name in names]

    def read(self, name: str) -> Floats:
        """A tensor as float32. Raises ConvertError when it holds a NaN or an infinity, or is no float."""
        stored = self.tensors[name]
        if stored.dtype not in ("F64", "F32", "F16", "BF16"):
            raise ConvertError(f"tensor {name} is of type {stored.dtype}; only plain floats can be converted")
        raw = np.fromfile(
            stored.path, _DTYPES[stored.dtype], count=int(np.prod(stored.shape)), offset=stored.begin
        ).reshape(stored.shape)
        values: Floats = (
            (raw.astype(np.uint32) << 16).view(np.float32) if stored.dtype == "BF16" else raw.astype(np.float32)
        )
        if not np.isfinite(values).all():
            raise ConvertError(f"tensor {name} holds NaN or infinity; the checkpoint is damaged")
        return values


def _header(path: Path) -> dict[str, Stored]:
    """Tensor table of one safetensors file, checked against its size."""
    size = path.stat().st_size
    with path.open("rb") as file:
        (n,) = struct.unpack("<Q", file.read(8).ljust(8, b"\0"))
        if not len("{}") <= n <= min(size - 8, _MAX_HEADER):
            raise ConvertError(f"{path.name} is not a safetensors file, or was cut short")
        try:
            table = json.loads(file.read(n))
        except ValueError as error:
            raise ConvertError(f"{path.name} has a damaged header: {error}") from error
    try:
        table.pop("__metadata__", None)
        tensors = {
            name: Stored(path, e["dtype"], tuple(e["shape"]), *(8 + n + at for at in e["data_offsets"]))
            for name, e in table.items()
        }
    except (TypeError, KeyError, IndexError, AttributeError) as error:
        raise ConvertError(f"{path.name} has a damaged header: {error!r}") from error
    for name, t in tensors.items():
        if t.end > size:
            raise ConvertError(f"{path.name} is cut short: {t.end - size} bytes of {name} are missing")
        width = np.dtype(_DTYPES[t.dtype]).itemsize if t.dtype in _DTYPES else None
        if width and (t.begin > t.end or t.end - t.begin != width * int(np.prod(t.shape, dtype=np.int64))):
            raise ConvertError(f"{path.name}: size and shape of {name} contradict each other")
    return tensors
