"""A GGUF file: typed metadata, the tensor table, and rows of tensors on demand."""

from __future__ import annotations

import stat
import struct
from collections import ChainMap
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, overload

import numpy as np
import numpy.typing as npt

from dspark_local.errors import ModelError, ModelNotFoundError
from dspark_local.formats.faults import format_fault, one_line, quoted
from dspark_local.formats.header import KINDS, STRING, Entry, Header, TensorInfo, read_header
from dspark_local.formats.parts import check_part, is_split, other_paths
from dspark_local.formats.rows import Floats, Rows

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping, Sequence

Scalar = int | float | bool | str
Value = Scalar | tuple[Scalar, ...]

__all__ = ["GGUF", "TensorInfo", "Value"]


@dataclass(frozen=True, slots=True, eq=False)
class GGUF:
    """An opened and checked file, or the first of several with the rest as `parts`.

    Nothing of the tensor data is held; `rows` and `mapped` map the file.
    """

    path: Path
    size: int
    mtime_ns: int
    header: Header
    parts: tuple[GGUF, ...] = ()

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> GGUF:
        """Read and check header and tensor table, of all parts if it is the first of several.

        Raises ModelNotFoundError without such a file, ModelError if it cannot be read, and ModelFormatError,
        naming file and fault in one line, for all on which llama.cpp would fail.
        """
        first = cls._open(Path(path))
        if not is_split(first):
            return first
        parts: list[GGUF] = []
        seen = set(first.header.tensors)
        for number, other in enumerate(other_paths(first), 2):
            part = cls._open(other)
            check_part(first, part, number, seen)
            seen |= part.header.tensors.keys()
            parts.append(part)
        return replace(first, parts=tuple(parts))

    @classmethod
    def _open(cls, path: Path) -> GGUF:
        shown = one_line(str(path))
        try:
            status = path.stat()
            if stat.S_ISDIR(status.st_mode):
                raise format_fault(path, "a folder, not a GGUF file")
            if not stat.S_ISREG(status.st_mode):  # a pipe would block for ever
                raise format_fault(path, "not a regular file")
            with path.open("rb") as file:
                return cls(path, status.st_size, status.st_mtime_ns, read_header(path, file, status.st_size))
        except FileNotFoundError:
            raise ModelNotFoundError(f"{shown}: no such file") from None
        except (OSError, ValueError) as error:  # ValueError: a NUL in the path
            reason = getattr(error, "strerror", None) or error
            raise ModelError(f"{shown}: cannot be read: {reason}") from None

    @property
    def tensors(self) -> Mapping[str, TensorInfo]:
        """Name → TensorInfo, in the files' order."""
        if not self.parts:
            return self.header.tensors
        return ChainMap(*(dict(f.header.tensors) for f in reversed((self, *self.parts))))

    @property
    def arch(self) -> str:
        """general.architecture. Raises ModelFormatError where it is missing."""
        arch = self.meta("general.architecture")
        if not isinstance(arch, str):
            raise format_fault(self.path, "general.architecture is missing, so this is no model")
        return arch

    # -- metadata

    def type_of(self, key: str) -> str | None:
        """Name the type of a metadata value: u32, f32, bool, str, arr[i32]…; None without that key."""
        entry = self.header.entries.get(key)
        return entry.type_name if entry else None

    @overload
    def meta(self, key: str) -> Value | None: ...
    @overload
    def meta(self, key: str, default: Value) -> Value: ...
    def meta(self, key: str, default: Value | None = None) -> Value | None:
        """Decode a metadata value: int, float, bool or str, or a tuple of these; anew at each call.

        Strings need not be UTF-8; what is not becomes U+FFFD. Use `strings` where bytes matter.
        """
        entry = self.header.entries.get(key)
        if entry is None:
            return default
        values: tuple[Scalar, ...]
        if entry.kind == STRING:
            values = tuple(raw.decode(errors="replace") for raw in _strings(self.header.data, entry))
        else:
            code = KINDS[entry.kind][1]
            values = struct.unpack_from(f"<{entry.count}{code}", self.header.data, entry.start)
        return values if entry.is_array else values[0]

    def strings(self, key: str) -> Iterator[bytes]:
        """Yield the bytes of each string under a key; nothing where there are none."""
        entry = self.header.entries.get(key)
        return _strings(self.header.data, entry) if entry and entry.kind == STRING else iter(())

    def count(self, key: str) -> int:
        """Count the values under a key: 1 for a scalar, 0 without that key."""
        entry = self.header.entries.get(key)
        return entry.count if entry else 0

    def raw(self, key: str) -> bytes:
        """Return the encoded bytes of a value, to compare or hash; empty without that key."""
        entry = self.header.entries.get(key)
        return self.header.data[entry.start : entry.end] if entry else b""

    # -- data

    def rows(self, name: str, indices: Sequence[int] | npt.NDArray[np.integer] | slice) -> Floats:
        """Dequantise rows of a matrix: [len(indices), row length]. Raises as `mapped` and Rows do."""
        return self.mapped(name)[indices]

    def mapped(self, name: str) -> Rows:
        """Map the rows of a matrix for who reads some of them often.

        Raises ModelFormatError where there is no such tensor or the file was changed.
        """
        info = self._tensor(name)
        encoded = np.asarray(self._bytes(info)).reshape(-1, info.nbytes // max(1, _n_rows(info)))
        return Rows(self.path, info.type, encoded)

    def ints(self, name: str) -> npt.NDArray[np.int64]:
        """Read all of an I64 or I32 tensor, flat."""
        info = self._tensor(name)
        if info.type.name not in {"I64", "I32"}:
            raise format_fault(self.path, f"tensor {quoted(name)} is {info.type.name}, not I64 or I32")
        return self._bytes(info).view("<i8" if info.type.name == "I64" else "<i4").astype(np.int64)

    def _tensor(self, name: str) -> TensorInfo:
        try:
            return self.tensors[name]
        except KeyError:
            raise format_fault(self.path, f"has no tensor {quoted(name)}") from None

    def _bytes(self, info: TensorInfo) -> npt.NDArray[np.uint8]:
        for part in self.parts:
            if info.name in part.header.tensors:
                return part._bytes(info)  # noqa: SLF001 - another of its own kind
        try:
            status = self.path.stat()
            if (status.st_size, status.st_mtime_ns) == (self.size, self.mtime_ns):
                return np.memmap(self.path, np.uint8, "r", info.offset, (info.nbytes,))
        except OSError:
            pass
        raise format_fault(self.path, "was changed or removed while it was in use")


def _n_rows(info: TensorInfo) -> int:
    return int(np.prod(info.shape[1:], dtype=np.int64))


def _strings(data: bytes, entry: Entry) -> Iterator[bytes]:
    length_at = struct.Struct("<Q").unpack_from
    at = entry.start
    for _ in range(entry.count):
        (length,) = length_at(data, at)
        yield data[at + 8 : at + 8 + length]
        at += 8 + length
