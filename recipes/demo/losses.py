"""Cross entropy over the vocabulary, in slices that stay in the cache, its gradients made on the way forward."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

SLICE = 512


class HeadCrossEntropy(torch.autograd.Function):
    """Mean cross entropy of `hidden [n, width]` through the head `weight [vocab, width]` against `labels [n]`."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, labels: Tensor) -> Tensor:  # noqa: ANN401 - torch's own
        total = 0.0
        d_hidden, d_weight = torch.empty_like(hidden), torch.zeros_like(weight, dtype=torch.float32)
        for start in range(0, len(hidden), SLICE):
            rows, wanted = hidden[start : start + SLICE], labels[start : start + SLICE, None]
            log_p = functional.log_softmax(functional.linear(rows, weight).float(), dim=-1)
            total -= log_p.gather(1, wanted).sum().item()
            gradient = log_p.exp_().scatter_add_(1, wanted, torch.full_like(wanted, -1.0, dtype=torch.float32))
            gradient = gradient.to(hidden.dtype)
            d_hidden[start : start + SLICE] = gradient @ weight
            d_weight += gradient.T @ rows
        ctx.save_for_backward(d_hidden, d_weight)
        ctx.count = len(hidden)
        return hidden.new_tensor(total / len(hidden), dtype=torch.float32)

    @staticmethod
    def backward(ctx: Any, *up: Tensor) -> tuple[Tensor, Tensor, None]:  # noqa: ANN401 - as above
        d_hidden, d_weight = ctx.saved_tensors
        scale = (up[0] / ctx.count).item()
        return d_hidden * scale, (d_weight * scale).to(d_hidden.dtype), None
