"""The precision that a device multiplies sooner."""

from __future__ import annotations

import time

import torch

_SIZE = 256  # rows and columns of the matrices that are multiplied
_TRIALS = 9  # of each, in turns, since other programs run too


def quicker(device: str) -> torch.dtype:
    """bfloat16 or float32, by trying both on `device`.

    A CPU without instructions for bfloat16 takes tens of times as long with it as with float32 (docs/log.md), so that
    the same one gives the same answer each time.
    """
    matrices = [torch.ones(_SIZE, _SIZE, device=device, dtype=dtype) for dtype in (torch.bfloat16, torch.float32)]
    trials = [[_seconds(matrix) for matrix in matrices] for _ in range(_TRIALS)]
    narrow, wide = map(min, zip(*trials, strict=True))
    return torch.bfloat16 if narrow < wide else torch.float32


def _seconds(matrix: torch.Tensor) -> float:
    """Of its product with itself."""
    began = time.perf_counter()
    (matrix @ matrix)[0, 0].item()  # a card's result is waited for
    return time.perf_counter() - began
