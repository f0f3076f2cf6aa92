"""The reader: what it reads, and what it refuses."""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING

import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFReader
from gguf.quants import dequantize, quantize
from hypothesis import given, settings
from hypothesis import strategies as st

from dspark_local.errors import DSparkError, ModelError, ModelFormatError, ModelNotFoundError
from dspark_local.formats.ggml import GGML_TYPES
from dspark_local.formats.gguf import GGUF
from tests.formats import tiny

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.target(untied=True).write(tmp_path_factory.mktemp("gguf") / "target.gguf")


def read_bytes(tmp_path: Path, data: bytes) -> GGUF:
    path = tmp_path / "bent.gguf"
    path.write_bytes(data)
    return GGUF.open(path)


def test_agrees_with_the_gguf_package_on_every_key_and_tensor(sound: Path) -> None:
    """Metadata, shapes, types, offsets and sizes are those that gguf.GGUFReader finds."""
    ours, theirs = GGUF.open(sound), GGUFReader(sound)
    for key, field in theirs.fields.items():
        if not key.startswith("GGUF."):
            value = ours.meta(key)
            assert (list(value) if isinstance(value, tuple) else value) == field.contents()
    assert list(ours.tensors) == [tensor.name for tensor in theirs.tensors]
    for tensor in theirs.tensors:
        info = ours.tensors[tensor.name]
        assert info.shape == tuple(tensor.shape)
        assert (info.type.number, info.offset, info.nbytes) == (
            tensor.tensor_type,
            tensor.data_offset,
            tensor.n_bytes,
        )


def test_knows_types_and_counts_without_decoding(sound: Path) -> None:
    """Types are named as llama.cpp names them; a missing key has none, no values and no bytes."""
    gguf = GGUF.open(sound)
    assert gguf.arch == "qwen3"
    assert gguf.type_of("qwen3.block_count") == "u32"
    assert gguf.type_of("tokenizer.ggml.tokens") == "arr[str]"
    assert gguf.count("tokenizer.ggml.tokens") == tiny.N_VOCAB
    assert (gguf.type_of("x"), gguf.meta("x"), gguf.meta("x", 3), gguf.count("x"), gguf.raw("x")) == (
        None, None, 3, 0, b"",
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q6_K", "Q4_K"])
def test_rows_are_what_the_gguf_package_dequantises(kind: str, tmp_path: Path) -> None:
    """Rows in any order, of any type that it can dequantise, equal its own; neighbours do not matter."""
    quant = GGMLQuantizationType[kind]
    random = np.random.default_rng(0)
    try:
        encoded = quantize(random.standard_normal((7, 256)).astype(np.float32), quant)
    except NotImplementedError:  # it reads K types but does not write them: any bytes are a valid block
        width = GGML_TYPES[int(quant)].nbytes
        encoded = random.integers(0, 64, (7, width), np.uint8)
    writer = tiny.GGUFWriter(tmp_path / "m.gguf", "x")
    writer.add_tensor("m", encoded, raw_dtype=quant)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    rows = GGUF.open(tmp_path / "m.gguf").rows("m", [5, 0, 5])
    assert rows.dtype == np.float32
    np.testing.assert_array_equal(rows, dequantize(encoded, quant)[[5, 0, 5]])


def test_the_type_table_is_the_librarys() -> None:
    """Block and byte sizes are those of the llama.cpp that is installed, for every type that it has."""
    library = pytest.importorskip("dspark_local.backend.library").lib
    import ctypes  # noqa: PLC0415  # only this test

    library.ggml_type_size.restype = ctypes.c_size_t
    library.ggml_blck_size.restype = ctypes.c_int64
    sizes = {n: (library.ggml_blck_size(n), library.ggml_type_size(n)) for n in range(43)}
    assert {n: s for n, s in sizes.items() if s[0]} == {n: (t.block, t.nbytes) for n, t in GGML_TYPES.items()}


def test_no_such_file_says_so(tmp_path: Path) -> None:
    """A missing file is ModelNotFoundError with its name."""
    with pytest.raises(ModelNotFoundError, match=r"nowhere\.gguf: no such file"):
        GGUF.open(tmp_path / "nowhere.gguf")


def test_a_folder_a_pipe_and_a_bad_name_are_refused(tmp_path: Path) -> None:
    """What is no regular file is refused before it is read, which for a pipe would never end."""
    with pytest.raises(ModelFormatError, match="a folder"):
        GGUF.open(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ModelFormatError, match="not a regular file"):
        GGUF.open(tmp_path / "pipe")
    with pytest.raises(ModelError, match="cannot be read"):
        GGUF.open("a\0b")


def test_a_truncated_file_says_how_much_is_missing(sound: Path, tmp_path: Path) -> None:
    """Bytes cut off the tensor data are counted in the message."""
    data = sound.read_bytes()
    with pytest.raises(ModelFormatError, match=rf"truncated: 100 of {len(data)} bytes are missing"):
        read_bytes(tmp_path, data[:-100])


def test_a_file_that_changes_in_use_is_an_error_and_no_crash(sound: Path, tmp_path: Path) -> None:
    """Rows of a file that was cut, rewritten or removed after it was opened raise ModelFormatError."""
    path = tmp_path / "changes.gguf"
    path.write_bytes(sound.read_bytes())
    gguf = GGUF.open(path)
    for change in (
        lambda: os.utime(path, ns=(0, 0)),
        lambda: os.truncate(path, 1000),
        path.unlink,
    ):
        change()
        with pytest.raises(ModelFormatError, match="was changed or removed"):
            gguf.rows("output.weight", [0])


@given(cut=st.floats(0, 1, exclude_max=True))
@settings(max_examples=150, deadline=None)
def test_every_prefix_is_refused_in_one_line(sound: Path, cut: float) -> None:
    """Wherever a file is cut, header included, the error is one line with its name."""
    data = sound.read_bytes()
    path = sound.parent / "prefix.gguf"
    path.write_bytes(data[: int(cut * len(data))])
    with pytest.raises(ModelFormatError) as caught:
        GGUF.open(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


@given(edits=st.lists(st.tuples(st.integers(0, 12000), st.integers(0, 255)), min_size=1, max_size=8))
@settings(max_examples=300, deadline=None)
def test_no_damage_raises_anything_but_our_errors(sound: Path, edits: list[tuple[int, int]]) -> None:
    """Bytes changed anywhere in the header give a file that reads, or a DSparkError of one line."""
    data = bytearray(sound.read_bytes())
    for at, value in edits:
        data[at] = value
    path = sound.parent / "damaged.gguf"
    path.write_bytes(data)
    try:
        gguf = GGUF.open(path)
        for key in gguf.header.entries:
            gguf.meta(key)
    except DSparkError as error:
        assert "\n" not in str(error)  # noqa: PT017  # either outcome is right; this is the fact about one


# -- headers made by hand: every count, length, type and offset wrong in turn


def text(value: bytes) -> bytes:
    return struct.pack("<Q", len(value)) + value


def header(*, n_tensors: int = 0, n_keys: int = 0, version: int = 3) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, n_tensors, n_keys)


def u32(key: bytes, value: int) -> bytes:
    return text(key) + struct.pack("<II", 4, value)


def tensor(name: bytes, shape: tuple[int, ...], kind: int = 0, offset: int = 0) -> bytes:
    return text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)


ROOM = bytes(4096)
REFUSED = {
    "magic": (b"GGML" + ROOM, "not a GGUF file"),
    "empty": (b"", "not a GGUF file"),
    "version 1": (header(version=1) + ROOM, "GGUF version 1 is not supported"),
    "version 4": (header(version=4) + ROOM, "GGUF version 4 is not supported"),
    "big-endian": (header(version=3 << 24) + ROOM, "a big-endian file"),
    "too many keys": (header(n_keys=2**40), "keys and 0 tensors do not fit"),
    "too many tensors": (header(n_tensors=2**63 + 1), "tensors do not fit"),
    "long key": (header(n_keys=1) + struct.pack("<Q", 2**62) + ROOM, "bytes of a key's name do not fit"),
    "empty key": (header(n_keys=1) + text(b"") + ROOM, "empty name"),
    "NUL in key": (header(n_keys=1) + u32(b"a\0b", 1) + ROOM, "a NUL in it"),
    "key not UTF-8": (header(n_keys=1) + u32(b"\xff\xfe", 1) + ROOM, "not UTF-8"),
    "twice the key": (header(n_keys=2) + u32(b"a", 1) + u32(b"a", 2) + ROOM, "key 'a' occurs twice"),
    "unknown type": (header(n_keys=1) + text(b"a") + struct.pack("<I", 13) + ROOM, "has the unknown type 13"),
    "nested array": (header(n_keys=1) + text(b"a") + struct.pack("<IIQ", 9, 9, 1) + ROOM, "array of arrays"),
    "long array": (header(n_keys=1) + text(b"a") + struct.pack("<IIQ", 9, 4, 2**61) + ROOM, "values of 'a'"),
    "long strings": (
        header(n_keys=1) + text(b"a") + struct.pack("<IIQ", 9, 8, 2**60) + ROOM,
        "values of 'a'",
    ),
    "long string": (
        header(n_keys=1) + text(b"a") + struct.pack("<IQ", 8, 2**63) + ROOM,
        "bytes of a string in 'a' do not fit",
    ),
    "alignment 0": (header(n_keys=1) + u32(b"general.alignment", 0) + ROOM, "not a power of two"),
    "alignment 48": (
        header(n_keys=1) + u32(b"general.alignment", 48) + ROOM,
        "48, which is not a power of two",
    ),
    "alignment u64": (
        header(n_keys=1) + text(b"general.alignment") + struct.pack("<IQ", 10, 32) + ROOM,
        "of type u64, not u32",
    ),
    "alignment 16": (
        header(n_keys=1, n_tensors=2)
        + u32(b"general.alignment", 16)
        + tensor(b"a", (4,))
        + tensor(b"b", (4,), offset=16)
        + ROOM,
        "not aligned to 32 bytes",
    ),
    "tensor name": (header(n_tensors=1) + tensor(b"x" * 64, (32,)) + ROOM, "longer than 63 bytes"),
    "twice the tensor": (
        header(n_tensors=2) + tensor(b"a", (32,)) + tensor(b"a", (32,), offset=128) + ROOM,
        "tensor 'a' occurs twice",
    ),
    "five dimensions": (header(n_tensors=1) + tensor(b"a", (1,) * 5) + ROOM, "5 dimensions"),
    "dimension 0": (header(n_tensors=1) + tensor(b"a", (32, 0)) + ROOM, "impossible shape"),
    "dimension -1": (header(n_tensors=1) + tensor(b"a", (2**64 - 1,)) + ROOM, "impossible shape"),
    "overflow": (header(n_tensors=1) + tensor(b"a", (2**32, 2**32, 2**32)) + ROOM, "impossible shape"),
    "removed type": (header(n_tensors=1) + tensor(b"a", (32,), kind=4) + ROOM, "unknown type 4"),
    "type 43": (header(n_tensors=1) + tensor(b"a", (32,), kind=43) + ROOM, "unknown type 43"),
    "ragged rows": (
        header(n_tensors=1) + tensor(b"a", (33,), kind=8) + ROOM,
        "rows of 33, not a multiple of 32",
    ),
    "offset": (header(n_tensors=1) + tensor(b"a", (32,), offset=7) + ROOM, "is not aligned: offset 7"),
    "gap": (header(n_tensors=1) + tensor(b"a", (32,), offset=64) + ROOM, "overlaps or leaves a gap"),
    "overlap": (
        header(n_tensors=2) + tensor(b"a", (32,)) + tensor(b"b", (32,), offset=0) + ROOM,
        "tensor 'b' overlaps or leaves a gap: offset 0, expected 128",
    ),
    "past the end": (header(n_tensors=1) + tensor(b"a", (2**40,)) + ROOM, "bytes are missing"),
    "line break": (header(n_keys=2) + u32(b"a\nb", 1) + u32(b"a\nb", 1) + ROOM, r"key 'a\\nb' occurs twice"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refuses_in_one_line(name: str, tmp_path: Path) -> None:
    """Each fault has its own message."""
    data, message = REFUSED[name]
    with pytest.raises(ModelFormatError, match=message) as caught:
        read_bytes(tmp_path, data)
    assert "\n" not in str(caught.value)


def test_version_2_reads(sound: Path, tmp_path: Path) -> None:
    """Version 2 differs from 3 in byte order alone, and is read."""
    data = bytearray(sound.read_bytes())
    data[4] = 2
    assert read_bytes(tmp_path, bytes(data)).header.version == 2
