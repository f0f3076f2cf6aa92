"""Whether a pair fits into memory, told before anything is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil

from dspark_local.errors import OutOfMemoryError, UsageError

if TYPE_CHECKING:
    from dspark_local.formats.gguf import GGUF

DEFAULT_CTX = 8192
MIN_CTX = 64
_F16 = 2
_COMPUTE = 64 << 20  # compute buffers of two small contexts
_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Need:
    """Bytes by what takes them."""

    weights: int
    kv: int
    compute: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.kv + self.compute


def context(target: GGUF, wanted: int | None) -> int:
    """Positions for one sequence: what was asked for, or what the model was trained for up to a sane default.

    Raises UsageError for a context too small to hold a chat.
    """
    trained = target.meta(f"{target.arch}.context_length", DEFAULT_CTX)
    if wanted is None:
        return min(trained, DEFAULT_CTX) if isinstance(trained, int) else DEFAULT_CTX
    if wanted < MIN_CTX:
        raise UsageError(f"a context of {wanted} tokens is too small; use --ctx-size {MIN_CTX} or more")
    return wanted


def need(files: list[GGUF], *, n_ctx: int, n_slots: int) -> Need:
    """What the models of `files` take together."""
    weights = sum(t.nbytes for f in files for t in f.tensors.values())
    return Need(weights, sum(_kv(f) for f in files) * n_ctx * n_slots, _COMPUTE * len(files))


def check(files: list[GGUF], *, n_ctx: int, n_slots: int) -> None:
    """Raise OutOfMemoryError if the pair cannot fit into what the machine has free now."""
    wanted = need(files, n_ctx=n_ctx, n_slots=n_slots)
    free = psutil.virtual_memory().available
    if wanted.total > free:
        raise OutOfMemoryError(
            f"{wanted.total // _MIB} MiB are needed ({wanted.weights // _MIB} for weights, {wanted.kv // _MIB} for "
            f"{n_ctx * n_slots} tokens of context) and {free // _MIB} are free; lower --ctx-size or use a smaller model"
        )


def _kv(file: GGUF) -> int:
    """Bytes of keys and values for one position."""

    def number(key: str, default: int) -> int:
        value = file.meta(f"{file.arch}.{key}", default)
        return value if isinstance(value, int) else default

    heads = number("attention.head_count", 1)
    kv_heads = number("attention.head_count_kv", heads)
    width = number("embedding_length", 0) // max(1, heads)
    key, value = number("attention.key_length", width), number("attention.value_length", width)
    return number("block_count", 0) * kv_heads * (key + value) * _F16
