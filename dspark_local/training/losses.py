"""The loss over the vocabulary, computed in slices that stay in the cache, its gradients made on the way forward."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Iterator

_LOGITS = {"cpu": 1 << 21, "cuda": 1 << 27}  # of a slice: what a cache holds, what a card holds beside the rest


def slices(n: int, head: Tensor) -> Iterator[slice]:
    """Runs of n rows whose logits are few enough to hold."""
    step = max(1, _LOGITS.get(head.device.type, 1 << 24) // len(head))
    return (slice(start, start + step) for start in range(0, n, step))


class DraftLoss(torch.autograd.Function):
    """Cross entropy and total variation of the drafted rows, weighted [P §3.3].

    `hidden [n, width]` and Markov rows `w1 [n, rank]` give draft logits hidden·headᵀ + w1·w2ᵀ; `target_hidden
    [n, width]` gives the target's, times `scale`, within `softcap` unless that is 0. Returns Σ weight·(α_ce·CE +
    α_l1·|q−p|₁) and each row's acceptance probability 1 − |q−p|₁/2.
    """

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 - torch's own
        hidden: Tensor, w1: Tensor, w2: Tensor, head: Tensor, target_hidden: Tensor, labels: Tensor, weights: Tensor,
        alpha_ce: float, alpha_l1: float, scale: float, softcap: float,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """See above; the gradients of the first four arguments but the head are kept for `backward`."""
        total = torch.zeros((), device=hidden.device)
        d_hidden, d_w1 = torch.empty_like(hidden), torch.empty_like(w1)
        d_w2, accepted = torch.zeros_like(w2, dtype=torch.float32), torch.empty(len(hidden), device=hidden.device)
        for at in slices(len(hidden), head):
            weight, wanted = weights[at, None], labels[at, None]
            logits = functional.linear(hidden[at], head) + functional.linear(w1[at], w2)
            log_q = functional.log_softmax(logits.float(), dim=-1)
            p = target_logits(target_hidden[at], head, scale, softcap).softmax(dim=-1)
            ce = -log_q.gather(1, wanted)
            q = log_q.exp_()
            gap = q - p
            l1 = gap.abs().sum(dim=-1, keepdim=True)
            total += (weight * (alpha_ce * ce + alpha_l1 * l1)).sum()
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
        return total, accepted

    @staticmethod
    def backward(ctx: Any, *up: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401 - as above
        """Gradients of hidden, w1 and w2."""
        d_hidden, d_w1, d_w2 = ctx.saved_tensors
        return d_hidden * up[0], d_w1 * up[0], (d_w2 * up[0]).to(d_w1.dtype), *(None,) * 8


def target_logits(hidden: Tensor, head: Tensor, scale: float, softcap: float) -> Tensor:
    """What the target's head makes of its final states, in float32."""
    logits = functional.linear(hidden, head).float() * scale
    return softcap * torch.tanh(logits / softcap) if softcap else logits
