"""A conversation's state as a file: its tokens, and what both models made of them.

Layout: a line that says what it is, eight bytes of length, a JSON head, tokens (int32), the target's bytes, the
drafter's; then the SHA-256 of all before. Numbers are little-endian.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dspark_local.errors import StorageError
from dspark_local.snapshots import Snapshot

if TYPE_CHECKING:
    from collections.abc import Iterable
    from io import BufferedReader

_MAGIC = b"dspark-local state 1\n"
_LENGTH = 8
_MOST_HEAD = 4096
_PIECE = 1 << 24  # bytes read or hashed at once
_TOKEN = np.dtype("<i4")


class _Head(BaseModel):
    """`identity` of the models, and how much of everything follows."""

    model_config = ConfigDict(extra="forbid", strict=True)

    identity: str
    tokens: int = Field(gt=0)
    prefilled: int = Field(ge=0)
    target: int = Field(gt=0)
    drafter: int = Field(ge=0)

    @property
    def size(self) -> int:
        return self.tokens * _TOKEN.itemsize + self.target + self.drafter


def write(path: Path, snapshot: Snapshot, identity: str) -> None:
    """Keep a state for models of this identity; the file is there whole or not at all. Raises StorageError."""
    head = _Head(
        identity=identity,
        tokens=len(snapshot.tokens),
        prefilled=snapshot.prefilled,
        target=len(snapshot.target),
        drafter=len(snapshot.drafter),
    )
    text = head.model_dump_json().encode()
    tokens = np.array(snapshot.tokens, _TOKEN).tobytes()
    parts = (_MAGIC, len(text).to_bytes(_LENGTH, "little"), text, tokens, snapshot.target, snapshot.drafter)
    try:
        _write(path, parts)
    except OSError as error:
        raise StorageError(f"{path} cannot be written: {error.strerror or error}") from None


def _write(path: Path, parts: Iterable[bytes | bytearray]) -> None:
    digest = hashlib.sha256()
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            for part in parts:
                digest.update(part)
                file.write(part)
            file.write(digest.digest())
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    finally:
        Path(name).unlink(missing_ok=True)


def read(path: Path, identity: str) -> Snapshot:
    """A state that `write` kept for models of this identity.

    Raises StorageError for a file that is missing, none of ours, damaged, or of other models: nothing of it is used.
    """
    try:
        with path.open("rb") as file:
            return _read(file, path, identity)
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error.strerror or error}") from None
    except MemoryError:
        raise StorageError(f"{path} is larger than the memory that is free") from None


def _read(file: BufferedReader, path: Path, identity: str) -> Snapshot:
    digest = hashlib.sha256()
    damaged = StorageError(f"{path} is damaged or cut short; delete it, and the conversation is read anew")

    def take(n: int) -> bytearray:
        data = bytearray(n)
        view = memoryview(data)
        if any(file.readinto(view[at : at + _PIECE]) != len(view[at : at + _PIECE]) for at in range(0, n, _PIECE)):
            raise damaged
        digest.update(data)
        return data

    if file.read(len(_MAGIC)) != _MAGIC:
        raise StorageError(f"{path} is no saved conversation of this version of dspark-local")
    digest.update(_MAGIC)
    length = int.from_bytes(take(_LENGTH), "little")
    if length > _MOST_HEAD:
        raise damaged
    try:
        head = _Head.model_validate_json(bytes(take(length)))
    except ValidationError:
        raise damaged from None
    if head.size != os.fstat(file.fileno()).st_size - file.tell() - digest.digest_size:
        raise damaged
    if head.identity != identity:
        raise StorageError(f"{path} belongs to other model files, or to other settings or another llama.cpp")
    tokens = np.frombuffer(take(head.tokens * _TOKEN.itemsize), _TOKEN).tolist()
    target, drafter = take(head.target), take(head.drafter)
    if file.read() != digest.digest():
        raise damaged
    return Snapshot(tokens, head.prefilled, target, drafter)
