"""4-bit packings, written here a second time from the methods' own descriptions: one number after the other.

Each takes codes [out, in], scales and zeros [out, groups], and gives the tensors of a module.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Tensors = dict[str, np.ndarray[Any, Any]]
E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6], np.float32)


def words(codes: np.ndarray, order: tuple[int, ...] = tuple(range(8))) -> np.ndarray:
    """[n, 8k] → [n, k] int32; code order[i] of eight at bits 4i."""
    out = np.zeros((len(codes), codes.shape[1] // 8), np.uint32)
    for i, at in enumerate(order):
        out |= codes[:, at::8].astype(np.uint32) << np.uint32(4 * i)
    return out.view(np.int32)


def dequantised(codes: np.ndarray, scales: np.ndarray, zeros: np.ndarray) -> np.ndarray:
    size = codes.shape[1] // scales.shape[1]
    wide = lambda x: np.repeat(x.astype(np.float64), size, 1)  # noqa: E731 - twice in one line
    return wide(scales) * (codes - wide(zeros))


def gptq(codes: np.ndarray, scales: np.ndarray, zeros: np.ndarray, *, shift: int = 1) -> Tensors:
    size = codes.shape[1] // scales.shape[1]
    return {
        "qweight": words(codes).T.copy(),
        "qzeros": words((zeros - shift).T),
        "scales": scales.T.copy(),
        "g_idx": (np.arange(codes.shape[1]) // size).astype(np.int32),
    }


def awq(codes: np.ndarray, scales: np.ndarray, zeros: np.ndarray) -> Tensors:
    order = (0, 2, 4, 6, 1, 3, 5, 7)
    return {"qweight": words(codes.T, order), "qzeros": words(zeros.T, order), "scales": scales.T.copy()}


def pack_quantized(codes: np.ndarray, scales: np.ndarray, zeros: np.ndarray) -> Tensors:
    tensors: Tensors = {
        "weight_packed": words(codes),
        "weight_scale": scales,
        "weight_shape": np.array(codes.shape, np.int64),
    }
    return tensors if (zeros == 8).all() else tensors | {"weight_zero_point": words(zeros.T).T.copy()}


def nibble_bytes(codes: np.ndarray) -> np.ndarray:
    return (codes[:, 0::2] | codes[:, 1::2] << 4).astype(np.uint8)


def e4m3(bits: np.ndarray) -> np.ndarray:
    exponent, mantissa = (bits >> 3 & 15).astype(np.float64), (bits & 7) / 8
    return np.where(exponent == 0, mantissa * 2.0**-6, (1 + mantissa) * 2.0 ** (exponent - 7))
