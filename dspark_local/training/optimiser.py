"""Muon for the matrices, Adam for the rest, in float32 masters above a network of lower precision."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Callable


def orthogonalise(batch: Tensor, steps: int = 5) -> Tensor:
    """Nearest orthogonal matrices of `batch [n, rows, cols]` by Newton–Schulz (Jordan et al. 2024, Muon).

    In the precision of the batch: bfloat16 is enough for it, and slow where the network is not in bfloat16.
    """
    transposed = batch.shape[1] > batch.shape[2]
    x: Tensor = batch.transpose(1, 2) if transposed else batch
    x = x / (torch.linalg.matrix_norm(x, keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.transpose(1, 2)
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return (x.transpose(1, 2) if transposed else x).float()


class MasteredOptimiser:
    """One step for a `network`: gradients up to float32 masters, updates, and the rounded weights back down.

    `project(name, weight)` is what becomes of a master on its way down; a quantiser there trains straight through it.
    """

    def __init__(self, network: nn.Module, *, matrix_rate: float, other_rate: float) -> None:
        self.network = dict(network.named_parameters())
        self.masters = {name: p.detach().float().clone() for name, p in self.network.items()}
        self.momentum = {name: torch.zeros_like(m) for name, m in self.masters.items()}
        self.second = {name: torch.zeros_like(m) for name, m in self.masters.items() if not self._muon(name)}
        self.matrix_rate, self.other_rate = matrix_rate, other_rate
        self.project: Callable[[str, Tensor], Tensor] = lambda _, weight: weight
        self.steps = 0

    def state(self) -> dict[str, Tensor]:
        """All that a run needs to go on from here, but for `steps`."""
        parts = {"master": self.masters, "momentum": self.momentum, "second": self.second}
        return {f"{part}.{name}": tensor for part, tensors in parts.items() for name, tensor in tensors.items()}

    @torch.no_grad()
    def restore(self, state: dict[str, Tensor], steps: int) -> None:
        """Take over what `state` gave."""
        for name, tensor in self.state().items():
            tensor.copy_(state[name])
        self.steps = steps
        self.write_back()

    def _muon(self, name: str) -> bool:
        return name == "fc.weight" or (self.masters[name].ndim == 2 and "layers." in name)  # noqa: PLR2004 - a matrix

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """Update with both learning rates times `rate`."""
        self.steps += 1
        groups: dict[torch.Size, list[str]] = defaultdict(list)
        for name, parameter in self.network.items():
            if parameter.grad is None:
                continue
            gradient = parameter.grad.float()
            if self._muon(name):
                self.momentum[name].lerp_(gradient, 0.05)
                groups[gradient.shape].append(name)
                parameter.grad = gradient.lerp(self.momentum[name], 0.95).to(parameter.dtype)
            else:
                self._adam(name, gradient, self.other_rate * rate)
        for shape, names in groups.items():
            update = orthogonalise(torch.stack([self._gradient(name) for name in names]))
            scale = self.matrix_rate * rate * max(1.0, shape[0] / shape[1]) ** 0.5
            for name, direction in zip(names, update, strict=True):
                self.masters[name].add_(direction, alpha=-scale)
        self.write_back()

    def _gradient(self, name: str) -> Tensor:
        gradient = self.network[name].grad
        assert gradient is not None
        return gradient

    def _adam(self, name: str, gradient: Tensor, rate: float) -> None:
        first, second = self.momentum[name], self.second[name]
        first.lerp_(gradient, 0.1)
        second.lerp_(gradient.square(), 0.05)
        corrected = (second / (1 - 0.95**self.steps)).sqrt_().add_(1e-8)
        self.masters[name].addcdiv_(first, corrected, value=-rate / (1 - 0.9**self.steps))

    @torch.no_grad()
    def write_back(self) -> None:
        """Masters, projected and rounded, into the network; its gradients go."""
        for name, parameter in self.network.items():
            parameter.copy_(self.project(name, self.masters[name]))
            parameter.grad = None


def rate_at(progress: float, *, warm_up: float = 0.02, cool_down: float = 0.7) -> float:
    """Trapezoid: up over `warm_up`, flat, and linearly to zero over the last `cool_down` of `progress` 0…1."""
    return min(1.0, (progress + 1e-3) / warm_up, (1.0 - progress) / cool_down)
