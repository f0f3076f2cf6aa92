"""What a weight becomes in the shipped file: GGML's Q4_0 and Q8_0, quantised and back."""

from __future__ import annotations

import torch
from torch import Tensor

BLOCK = 32


def q4_0(weight: Tensor) -> Tensor:
    """`weight [rows, 32·n]` after a trip through Q4_0: sixteen levels from −8 to 7 times max|x|/−8 per block of 32."""
    blocks = weight.float().reshape(-1, BLOCK)
    extreme = blocks.gather(1, blocks.abs().argmax(dim=1, keepdim=True))
    scale = extreme / -8
    inverse = torch.where(scale == 0, torch.zeros_like(scale), 1 / scale)
    levels = (blocks * inverse + 8.5).floor_().clamp_(0, 15) - 8
    return (levels * scale.half().float()).reshape(weight.shape)


def q8_0(weight: Tensor) -> Tensor:
    """`weight [rows, 32·n]` after a trip through Q8_0: integers up to 127 times max|x|/127 per block of 32."""
    blocks = weight.float().reshape(-1, BLOCK)
    scale = blocks.abs().amax(dim=1, keepdim=True) / 127
    inverse = torch.where(scale == 0, torch.zeros_like(scale), 1 / scale)
    return ((blocks * inverse).round_() * scale.half().float()).reshape(weight.shape)


def shipped(name: str, weight: Tensor) -> Tensor:
    """The target's `weight` as the 4-bit file holds it: Q4_0, the tied embedding in Q8_0, norms as they are."""
    if weight.ndim != 2:
        return weight
    return q8_0(weight) if "embed_tokens" in name else q4_0(weight)
