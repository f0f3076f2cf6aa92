"""GGUF header bytes → metadata and tensor table, refusing all that llama.cpp would choke on.

The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. Nothing is believed before it is held
against the length of the file, and nothing bigger than the header itself is ever allocated.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from dspark_local.formats.faults import format_fault, quoted
from dspark_local.formats.ggml import GGML_TYPES, GGMLType

if TYPE_CHECKING:
    from pathlib import Path

    from dspark_local.errors import ModelFormatError

MAGIC = b"GGUF"
VERSIONS = (2, 3)
STRING, ARRAY = 8, 9
# Metadata types by number: name, struct code. Strings and arrays have no code.
KINDS = {
    0: ("u8", "B"), 1: ("i8", "b"), 2: ("u16", "H"), 3: ("i16", "h"), 4: ("u32", "I"), 5: ("i32", "i"),
    6: ("f32", "f"), 7: ("bool", "?"), STRING: ("str", ""), ARRAY: ("arr", ""), 10: ("u64", "Q"),
    11: ("i64", "q"), 12: ("f64", "d"),
}  # fmt: skip

_CHUNK = 1 << 20
_LONGEST_HEADER = 1 << 28  # vocabularies of a million tokens take a tenth of this
_LONGEST_TENSOR_NAME = 63  # GGML_MAX_NAME with its terminator
_MOST_DIMS = 4
_MOST_ELEMENTS = 2**63 - 1
_DEFAULT_ALIGNMENT = 32
_MAPPED_ALIGNMENT = 32  # TENSOR_ALIGNMENT: llama.cpp aborts when a mapped buffer starts elsewhere
_LEAST_KEY, _LEAST_TENSOR = 14, 24  # bytes that the smallest entry of each kind takes


@dataclass(frozen=True, slots=True)
class Entry:
    """Where a metadata value lies in the header: `count` elements of type `kind` in bytes [start, end)."""

    kind: int
    is_array: bool
    count: int
    start: int
    end: int

    @property
    def type_name(self) -> str:
        """The type as llama.cpp names it: u32, arr[str]."""
        name = KINDS[self.kind][0]
        return f"arr[{name}]" if self.is_array else name


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One tensor: `shape` in ggml's order, row length first; `offset` in bytes from the start of the file."""

    name: str
    shape: tuple[int, ...]
    type: GGMLType
    offset: int
    nbytes: int

    def has_shape(self, *expected: int) -> bool:
        """Whether the shape is this one, dimensions of 1 at the end aside."""
        pad = _MOST_DIMS - len(self.shape)
        return (*self.shape, *(1,) * pad) == (*expected, *(1,) * (_MOST_DIMS - len(expected)))


@dataclass(frozen=True, slots=True)
class Header:
    """What stands before the tensor data; `entries` point into `data`."""

    version: int
    alignment: int
    data: bytes = field(repr=False)
    entries: dict[str, Entry]
    tensors: dict[str, TensorInfo]


class Readable(Protocol):
    """A file, or as much of one as arrives."""

    def read(self, n: int, /) -> bytes:
        """At most n bytes; none at the end."""
        ...


def read_header(path: Path, file: Readable, size: int) -> Header:
    """Read and check the header of an open file of `size` bytes. Raises ModelFormatError."""
    return _Parser(path, file, size).header()


class _Parser:
    """A position in a file that is read in chunks, never past `size`."""

    def __init__(self, path: Path, file: Readable, size: int) -> None:
        self.path, self.file, self.size = path, file, size
        self.data = bytearray()
        self.at = 0

    def header(self) -> Header:
        if self.size < len(MAGIC) or self._take(len(MAGIC)) != MAGIC:
            raise self._fault("not a GGUF file")
        version = self._u32()
        if version not in VERSIONS:
            swapped = int.from_bytes(version.to_bytes(4, "little"), "big")
            hint = " (a big-endian file)" if swapped in VERSIONS else ""
            raise self._fault(f"GGUF version {version}{hint} is not supported, only 2 and 3, little-endian")
        n_tensors, n_keys = self._u64(), self._u64()
        least = n_keys * _LEAST_KEY + n_tensors * _LEAST_TENSOR
        self._need_room(least, f"{n_keys} keys and {n_tensors} tensors")

        entries: dict[str, Entry] = {}
        for _ in range(n_keys):
            key = self._name("key")
            if key in entries:
                raise self._fault(f"key {quoted(key)} occurs twice")
            entries[key] = self._value(key)
        alignment = self._alignment(entries.get("general.alignment"))

        tensors: dict[str, TensorInfo] = {}
        for _ in range(n_tensors):
            info = self._tensor()
            if info.name in tensors:
                raise self._fault(f"tensor {quoted(info.name)} occurs twice")
            tensors[info.name] = info
        start = -(-self.at // alignment) * alignment
        tensors = self._placed(tensors, start, alignment)
        return Header(version, alignment, bytes(self.data[: self.at]), entries, tensors)

    # -- bytes

    def _fault(self, what: str) -> ModelFormatError:
        return format_fault(self.path, what)

    def _need_room(self, n: int, what: str) -> None:
        if n > self.size - self.at:
            raise self._fault(f"damaged or truncated: {what} do not fit into a file of {self.size} bytes")

    def _fill(self, n: int) -> None:
        """See that n more bytes can be taken from `data`."""
        end = self.at + n
        if end > self.size:
            raise self._fault(f"truncated: its header goes on past the {self.size} bytes that there are")
        if end > _LONGEST_HEADER:
            raise self._fault(f"damaged: its header claims more than {_LONGEST_HEADER >> 20} MiB")
        while len(self.data) < end:
            chunk = self.file.read(max(_CHUNK, end - len(self.data)))
            if not chunk:
                raise self._fault("truncated while it was read")
            self.data += chunk

    def _take(self, n: int) -> bytes:
        self._fill(n)
        self.at += n
        return bytes(self.data[self.at - n : self.at])

    def _u32(self) -> int:
        return int.from_bytes(self._take(4), "little")

    def _u64(self) -> int:
        return int.from_bytes(self._take(8), "little")

    def _name(self, what: str) -> str:
        length = self._u64()
        self._need_room(length, f"the {length} bytes of a {what}'s name")
        raw = self._take(length)
        try:
            name = raw.decode()
        except UnicodeDecodeError:
            shown = quoted(repr(raw)[2:-1])
            raise self._fault(f"damaged: the name of a {what} is not UTF-8: {shown}") from None
        if not name or "\0" in name:  # llama.cpp compares C strings, to which a NUL is the end
            raise self._fault(f"damaged: a {what} has an empty name or a NUL in it: {quoted(name)}")
        return name

    # -- metadata

    def _value(self, key: str) -> Entry:
        kind, is_array, count = self._u32(), False, 1
        if kind == ARRAY:
            kind, is_array, count = self._u32(), True, self._u64()
        if kind == ARRAY or kind not in KINDS:
            what = "is an array of arrays" if kind == ARRAY else f"has the unknown type {kind}"
            raise self._fault(f"key {quoted(key)} {what}")
        width = struct.calcsize(KINDS[kind][1]) if kind != STRING else 8
        self._need_room(count * width, f"the {count} values of {quoted(key)}")
        start = self.at
        if kind == STRING:
            self._skip_strings(key, count)
        else:
            self._fill(count * width)
            self.at += count * width
        return Entry(kind, is_array, count, start, self.at)

    def _skip_strings(self, key: str, count: int) -> None:
        length_at = struct.Struct("<Q").unpack_from
        data = self.data
        for _ in range(count):  # the one hot loop: some 300,000 strings in a large vocabulary
            if self.at + 8 > len(data):
                self._fill(8)
            (length,) = length_at(data, self.at)
            self.at += 8
            if self.at + length > len(data):
                self._need_room(length, f"the {length} bytes of a string in {quoted(key)}")
                self._fill(length)
            self.at += length

    def _alignment(self, entry: Entry | None) -> int:
        if entry is None:
            return _DEFAULT_ALIGNMENT
        if entry.type_name != "u32":
            raise self._fault(f"general.alignment is of type {entry.type_name}, not u32")
        alignment = int.from_bytes(self.data[entry.start : entry.end], "little")
        if alignment.bit_count() != 1:
            raise self._fault(f"general.alignment is {alignment}, which is not a power of two")
        return alignment

    # -- tensors

    def _tensor(self) -> TensorInfo:
        name = self._name("tensor")
        if len(name.encode()) > _LONGEST_TENSOR_NAME:
            raise self._fault(f"tensor name {quoted(name)} is longer than {_LONGEST_TENSOR_NAME} bytes")
        n_dims = self._u32()
        if n_dims > _MOST_DIMS:
            raise self._fault(f"tensor {quoted(name)} has {n_dims} dimensions, more than {_MOST_DIMS}")
        shape = tuple(self._u64() for _ in range(n_dims))
        elements = math.prod(shape)
        if not 0 < elements <= _MOST_ELEMENTS:
            raise self._fault(f"tensor {quoted(name)} has the impossible shape {shape}")
        number = self._u32()
        kind = GGML_TYPES.get(number)
        if kind is None:
            raise self._fault(f"tensor {quoted(name)} has the unknown type {number}")
        row = shape[0] if shape else 1
        if row % kind.block:
            wanted = f"a multiple of {kind.block} as {kind.name} needs"
            raise self._fault(f"tensor {quoted(name)} has rows of {row}, not {wanted}")
        return TensorInfo(name, shape, kind, self._u64(), elements // kind.block * kind.nbytes)

    def _placed(self, tensors: dict[str, TensorInfo], start: int, alignment: int) -> dict[str, TensorInfo]:
        """Check where the tensors lie (ggml wants no gaps) and count offsets from the file's start."""
        expected = end = 0
        for info in tensors.values():
            if info.offset != expected:
                reason = "is not aligned" if info.offset % alignment else "overlaps or leaves a gap"
                found = f"offset {info.offset}, expected {expected}"
                raise self._fault(f"tensor {quoted(info.name)} {reason}: {found}")
            if (start + info.offset) % _MAPPED_ALIGNMENT:
                raise self._fault(f"tensor {quoted(info.name)} is not aligned to {_MAPPED_ALIGNMENT} bytes")
            end = info.offset + info.nbytes
            expected = -(-end // alignment) * alignment
        if tensors and start + end > self.size:
            missing = start + end - self.size
            raise self._fault(f"truncated: {missing} of {start + end} bytes are missing; download it again")
        return {
            name: TensorInfo(name, info.shape, info.type, start + info.offset, info.nbytes)
            for name, info in tensors.items()
        }
