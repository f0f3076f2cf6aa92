"""4-bit codes with a scale and a zero per group, as ggml's blocks of 32: Q4_0 where every zero is 8, else Q4_1.

A source's number is scale · (code − zero). Q4_0 holds d · (code − 8) and Q4_1 d · code + m (ggml-quants.c), d and m in
F16: the codes stay, and what may be lost is the rounding of d = scale and m = −scale · zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from gguf import GGMLQuantizationType

from dspark_local.errors import ConvertError

if TYPE_CHECKING:
    from collections.abc import Callable

    from dspark_local.convert.checkpoint import Floats

Bytes = npt.NDArray[np.uint8]
BLOCK, SYMMETRIC, TOP = 32, 8, 15


@dataclass(frozen=True, slots=True)
class Packed:
    """A matrix of codes: `codes`, `scales` and `zeros` of a run of rows are [n, in], [n, groups] and [n, groups].

    `group` is the group of each block of 32 inputs, [in / 32].
    """

    name: str
    shape: tuple[int, int]
    group: npt.NDArray[np.int64]
    codes: Callable[[slice], Bytes]
    scales: Callable[[slice], Floats]
    zeros: Callable[[slice], npt.NDArray[np.int64]]


@dataclass(frozen=True, slots=True)
class Kept:
    """What became of a matrix: its GGUF type, how its rows are encoded, and the largest error in steps of its codes."""

    shape: tuple[int, ...]
    kind: GGMLQuantizationType
    rows: Callable[[slice], npt.NDArray[Any]]
    error: float
    scale: float | None = None  # of the whole matrix, where a type keeps it beside


def keep(packed: Packed, runs: list[slice]) -> Kept:
    """Choose the type and measure the error, over `runs` that together are all rows.

    Raises ConvertError for scales that are no numbers, or that F16 cannot hold.
    """
    symmetric, error = True, 0.0
    for rows in runs:
        scales, zeros = packed.scales(rows), packed.zeros(rows)
        if not np.isfinite(scales).all():
            raise ConvertError(f"the scales of {packed.name} hold NaN or infinity; the checkpoint is damaged")
        if max(np.abs(scales).max(), np.abs(scales * zeros).max()) > np.finfo(np.float16).max:
            raise ConvertError(f"a scale of {packed.name} is beyond what F16 holds")
        symmetric = symmetric and bool((zeros == SYMMETRIC).all())
        error = max(error, _error(scales, zeros))
    if symmetric:  # d alone is rounded, and the farthest code is 8 away
        error = max(_rounding(packed.scales(rows)) for rows in runs) * SYMMETRIC
    kind = GGMLQuantizationType.Q4_0 if symmetric else GGMLQuantizationType.Q4_1
    return Kept(packed.shape, kind, lambda rows: _encoded(packed, rows, symmetric=symmetric), error)


def _rounding(scales: Floats) -> float:
    """How far F16 is from the scales, as a share of them."""
    off = np.abs(scales.astype(np.float16).astype(np.float64) - scales)
    return float(np.max(off / np.where(scales == 0, 1, np.abs(scales)), initial=0))


def _error(scales: Floats, zeros: npt.NDArray[np.int64]) -> float:
    """Of d · code + m in steps; linear in the code, so that one of its ends is the worst."""
    exact = scales.astype(np.float64)
    d = scales.astype(np.float16).astype(np.float64)
    m = (-exact * zeros).astype(np.float16).astype(np.float64)
    ends = [np.abs(d * code + m - exact * (code - zeros)) for code in (0, TOP)]
    return float(np.max(np.maximum(*ends) / np.where(exact == 0, 1, np.abs(exact)), initial=0))


def _encoded(packed: Packed, rows: slice, *, symmetric: bool) -> Bytes:
    codes = packed.codes(rows).reshape(-1, len(packed.group), BLOCK)
    scales = packed.scales(rows)[:, packed.group]
    parts = [scales.astype(np.float16)]
    if not symmetric:
        exact = scales.astype(np.float64) * packed.zeros(rows)[:, packed.group]
        parts.append((-exact).astype(np.float16))
    nibbles = paired(codes)
    heads = [part[..., None].view(np.uint8) for part in parts]
    return np.concatenate([*heads, nibbles], axis=-1).reshape(len(codes), -1)


def paired(codes: Bytes) -> Bytes:
    """[..., 2k] codes → [..., k] bytes: code j in the low half, code j + k in the high."""
    half = codes.shape[-1] // 2
    return (codes[..., :half] | codes[..., half:] << 4).astype(np.uint8)


def unpaired(packed: Bytes) -> Bytes:
    """[..., k] bytes → [..., 2k] codes, the low half of each byte first."""
    return np.stack((packed & TOP, packed >> 4), -1).reshape(*packed.shape[:-1], -1)


def nibbles(words: npt.NDArray[Any], order: tuple[int, ...] = tuple(range(8))) -> Bytes:
    """[..., k] 32-bit words → [..., 8k] codes; code i of a word stands at nibble order[i]."""
    shifts = np.array([4 * at for at in order], np.uint32)
    codes = words.astype(np.uint32)[..., None] >> shifts & TOP
    return codes.astype(np.uint8).reshape(*words.shape[:-1], -1)


def block_groups(name: str, groups: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Group of every input → group of every block. Raises ConvertError where a block has inputs of several."""
    blocks = groups.reshape(-1, BLOCK)
    if (blocks != blocks[:, :1]).any():
        raise ConvertError(
            f"{name} is in act-order: neighbouring inputs belong to different groups, which GGUF's blocks cannot hold; "
            "convert the unquantised checkpoint instead"
        )
    return blocks[:, 0]
