"""A GGUF file written a few rows at a time, beside its final name, and renamed when it is whole."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import psutil
from gguf import GGMLQuantizationType, GGUFWriter
from gguf.quants import quant_shape_to_byte_shape

from dspark_local.convert.checkpoint import slabs
from dspark_local.convert.quantise import encode
from dspark_local.errors import ConvertError, ModelFormatError
from dspark_local.formats.gguf import GGUF
from dspark_local.formats.model import check_model

if TYPE_CHECKING:
    from pathlib import Path

    from dspark_local.convert.checkpoint import Floats

Progress = Callable[[int, int], None]  # bytes written, bytes in all
_PLAIN = {
    GGMLQuantizationType.F32: "float32",
    GGMLQuantizationType.F16: "float16",
    GGMLQuantizationType.I64: "int64",
}


@dataclass(frozen=True, slots=True)
class Planned:
    """A tensor to be written: name, shape in rows first, type, and a run of its rows in that type."""

    name: str
    shape: tuple[int, ...]
    kind: GGMLQuantizationType
    rows: Callable[[slice], npt.NDArray[Any]]

    @property
    def nbytes(self) -> int:
        """Size in the file."""
        if self.kind in _PLAIN:
            return int(np.prod(self.shape)) * np.dtype(_PLAIN[self.kind]).itemsize
        return int(np.prod(quant_shape_to_byte_shape(self.shape, self.kind)))


def floats(name: str, shape: tuple[int, ...], kind: GGMLQuantizationType, read: Callable[[slice], Floats]) -> Planned:
    """A tensor whose rows are read as floats and encoded as they are written."""
    return Planned(name, shape, kind, lambda rows: encode(name, read(rows), kind))


def values(name: str, array: npt.NDArray[Any]) -> Planned:
    """A tensor that is at hand, F32 or I64."""
    kind = {"float32": GGMLQuantizationType.F32, "int64": GGMLQuantizationType.I64}[array.dtype.name]
    return Planned(name, array.shape, kind, lambda rows: array[rows])


def write(
    out: Path,
    arch: str,
    keys: Callable[[Any], None],
    tensors: list[Planned],
    progress: Progress | None,
    *,
    outline: bool = False,
) -> Path:
    """Write a file: `keys` fills in the metadata of the GGUFWriter that it is given.

    An `outline` has the header and the size of the file, and a hole for its data: enough to plan with.
    Raises ConvertError when the disk refuses; nothing that looks finished is left behind.
    """
    beside = out.with_name(f".{out.name}.{os.getpid()}.part")
    try:
        forget_parts(out)
        if not outline:
            need_room(out.parent, sum(t.nbytes for t in tensors))
        with contextlib.closing(GGUFWriter(beside, arch)) as writer:
            keys(writer)
            for t in tensors:
                dtype, raw = _declared(t.kind)
                shape = t.shape if raw is None else quant_shape_to_byte_shape(t.shape, t.kind)
                writer.add_tensor_info(t.name, shape, np.dtype(dtype), t.nbytes, raw)
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_ti_data_to_file()
            assert writer.fout
            file = writer.fout[0]
            if outline:
                file.truncate(file.tell() + sum(t.nbytes + writer.data_alignment for t in tensors))
            else:
                _write_data(writer, file, tensors, progress)
            file.flush()
            os.fsync(file.fileno())
        if not outline:
            check_model(GGUF.open(beside))  # what the loader would refuse is no file to leave
        beside.replace(out)
    except OSError as error:
        raise ConvertError(f"{out} cannot be written: {error.strerror or error}") from error
    except ModelFormatError as error:
        raise ConvertError(f"{out} would not load: {str(error).removeprefix(str(beside)).lstrip(': ')}") from error
    finally:
        beside.unlink(missing_ok=True)
    return out


def forget_parts(out: Path) -> None:
    """Remove what processes that were killed left of this file: parts named after it and after who wrote them."""
    name = re.compile(rf"\.+{re.escape(out.name)}\.(\d{{1,9}})\.(.*\.)?part")
    with contextlib.suppress(OSError):
        for path in out.parent.iterdir():
            found = name.fullmatch(path.name)
            if found and not psutil.pid_exists(int(found[1])):
                path.unlink(missing_ok=True)


def need_room(folder: Path, nbytes: int) -> None:
    """Raise ConvertError if a disk has not this much room; and if there is no such folder."""
    try:
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise ConvertError(f"{folder} cannot be written to: {error.strerror or error}") from error
    if nbytes > free:
        raise ConvertError(f"{folder} has {free >> 20} MiB free, and {nbytes >> 20} MiB are needed; make room")


def _write_data(writer: GGUFWriter, file: IO[bytes], tensors: list[Planned], progress: Progress | None) -> None:
    # GGUFWriter.write_tensor_data wants a tensor whole, and the embedding of a large model is gigabytes in float32
    total, done = sum(t.nbytes for t in tensors), 0
    writer.write_padding(file, file.tell())
    for t in tensors:
        written = 0
        for rows in slabs(t.shape):
            encoded = np.ascontiguousarray(t.rows(rows))
            file.write(encoded.data)
            written += encoded.nbytes
            if progress:
                progress(done + written, total)
        assert written == t.nbytes
        writer.write_padding(file, written)
        done += written


def _declared(kind: GGMLQuantizationType) -> tuple[str, GGMLQuantizationType | None]:
    return (_PLAIN[kind], None) if kind in _PLAIN else ("uint8", kind)
