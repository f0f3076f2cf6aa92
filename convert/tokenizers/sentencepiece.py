"""tokenizer.model: SentencePiece's ModelProto, the few fields of it that a GGUF holds.

The wire format is https://protobuf.dev/programming-guides/encoding; field numbers are those of
sentencepiece_model.proto. Read here rather than by a package of compiled code, because a damaged file must be a line
and not an abort.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dspark_local.errors import ConvertError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # wire types
_PIECES, _TRAINER, _NORMALIZER = 1, 2, 3  # of ModelProto
_MODEL_TYPE, _BPE, _UNIGRAM = 3, 2, 1  # of TrainerSpec
_DUMMY_PREFIX, _EXTRA_SPACES = 3, 4  # of NormalizerSpec
_KINDS = range(1, 7)  # of a piece: llama.cpp's numbers are the same
_LONGEST = 10  # bytes of a varint

Field = tuple[int, int | bytes]


@dataclass(frozen=True, slots=True)
class SentencePiece:
    """Pieces as (text, score, type); whether a space goes before the text, and whether runs of spaces become one."""

    pieces: tuple[tuple[str, float, int], ...]
    add_space_prefix: bool
    remove_extra_spaces: bool


def read_sentencepiece(path: Path) -> SentencePiece:
    """Read a tokenizer.model. Raises ConvertError for what is damaged, or is no BPE model."""
    try:
        return _model(path, path.read_bytes())
    except OSError as error:
        raise ConvertError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, IndexError, struct.error) as error:
        raise ConvertError(f"{path} is no SentencePiece model, or is damaged; download it again") from error


def _model(path: Path, data: bytes) -> SentencePiece:
    pieces: list[tuple[str, float, int]] = []
    trainer: dict[int, int | bytes] = {}
    normalizer: dict[int, int | bytes] = {}
    for number, value in _fields(data):
        if number == _PIECES:
            pieces.append(_piece(_message(value)))
        elif number == _TRAINER:
            trainer = _message(value)
        elif number == _NORMALIZER:
            normalizer = _message(value)
    if not pieces:
        raise ValueError
    if trainer.get(_MODEL_TYPE, _UNIGRAM) != _BPE:
        raise ConvertError(f"{path} is a SentencePiece model of another kind than BPE, which llama.cpp reads otherwise")
    return SentencePiece(tuple(pieces), bool(normalizer.get(_DUMMY_PREFIX, 1)), bool(normalizer.get(_EXTRA_SPACES, 1)))


def _piece(fields: dict[int, int | bytes]) -> tuple[str, float, int]:
    text, raw, kind = fields.get(1, b""), fields.get(2, bytes(4)), fields.get(3, 1)
    if not isinstance(text, bytes) or not isinstance(raw, bytes) or kind not in _KINDS:
        raise ValueError
    (score,) = struct.unpack("<f", raw)
    if not math.isfinite(score):
        raise ValueError
    assert isinstance(kind, int)
    return text.decode(), float(score), kind


def _message(value: int | bytes) -> dict[int, int | bytes]:
    if not isinstance(value, bytes):
        raise ValueError  # noqa: TRY004 - one kind of damage as good as another
    return dict(_fields(value))


def _fields(data: bytes) -> Iterator[Field]:
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        wire = tag & 7
        if wire == _VARINT:
            value, at = _varint(data, at)
            yield tag >> 3, value
            continue
        length = {_FIXED64: 8, _FIXED32: 4}.get(wire)
        if length is None:
            if wire != _BYTES:
                raise ValueError
            length, at = _varint(data, at)
        if length > len(data) - at:
            raise ValueError
        yield tag >> 3, data[at : at + length]
        at += length


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for i in range(_LONGEST):
        byte = data[at + i]
        value |= (byte & 127) << (7 * i)
        if byte < 128:  # noqa: PLR2004 - the bit that says there is more
            return value, at + i + 1
    raise ValueError
