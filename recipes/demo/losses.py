"""Losses over the vocabulary, computed in slices that stay in the cache, their gradients made on the way forward."""

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


class DraftLoss(torch.autograd.Function):
    """Cross entropy and total variation of the drafted rows, weighted [P §3.3].

    `hidden [n, width]` and Markov rows `w1 [n, rank]` give draft logits hidden·headᵀ + w1·w2ᵀ; `target_hidden
    [n, width]` gives the target's. Returns Σ weight·(α_ce·CE + α_l1·|q−p|₁) and each row's acceptance probability
    1 − |q−p|₁/2.
    """

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 - as above
        hidden: Tensor, w1: Tensor, w2: Tensor, head: Tensor, target_hidden: Tensor, labels: Tensor, weights: Tensor,
        alpha_ce: float, alpha_l1: float,
    ) -> tuple[Tensor, Tensor]:
        total = 0.0
        d_hidden, d_w1 = torch.empty_like(hidden), torch.empty_like(w1)
        d_w2, accepted = torch.zeros_like(w2, dtype=torch.float32), torch.empty(len(hidden))
        for start in range(0, len(hidden), SLICE):
            at = slice(start, start + SLICE)
            weight, wanted = weights[at, None], labels[at, None]
            logits = functional.linear(hidden[at], head) + functional.linear(w1[at], w2)
            log_q = functional.log_softmax(logits.float(), dim=-1)
            p = functional.linear(target_hidden[at], head).float().softmax(dim=-1)
            ce = -log_q.gather(1, wanted)
            q = log_q.exp_()
            gap = q - p
            l1 = gap.abs().sum(dim=-1, keepdim=True)
            total += (weight * (alpha_ce * ce + alpha_l1 * l1)).sum().item()
            accepted[at] = 1 - l1[:, 0] / 2
            # d|q−p|₁/dz = q·(s − Σ s·q) with s = sign(q − p); dCE/dz = q − onehot.
            sign = gap.sign_()
            gradient = sign.sub_((sign * q).sum(dim=-1, keepdim=True)).mul_(alpha_l1).add_(alpha_ce).mul_(q)
            gradient.scatter_add_(1, wanted, torch.full_like(ce, -alpha_ce))
            gradient = gradient.mul_(weight).to(hidden.dtype)
            d_hidden[at] = gradient @ head
            d_w1[at] = gradient @ w2
            d_w2 += gradient.T @ w1[at]
        ctx.save_for_backward(d_hidden, d_w1, d_w2)
        ctx.mark_non_differentiable(accepted)
        return torch.tensor(total), accepted

    @staticmethod
    def backward(ctx: Any, *up: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401 - as above
        scale = up[0].item()
        d_hidden, d_w1, d_w2 = ctx.saved_tensors
        return d_hidden * scale, d_w1 * scale, (d_w2 * scale).to(d_w1.dtype), *(None,) * 6
