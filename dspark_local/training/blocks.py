"""Draft blocks cut out of known text [P §5.1]: many anchors of a row in one pass, each block seeing only its past."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from dspark_local.training.network import Drafter


@dataclass(frozen=True, slots=True)
class Blocks:
    """`anchors [batch, a]` are positions; slot k of a block predicts position anchor + k + 1.

    `labels`, `previous` (teacher-forced), `valid` and `sources` (the row position whose target state predicts the same
    token) are `[batch, a, γ]`.
    """

    anchors: Tensor
    labels: Tensor
    previous: Tensor
    valid: Tensor
    sources: Tensor


def cut_blocks(ids: Tensor, learn: Tensor, anchors: Tensor, size: int) -> Blocks:
    """Blocks of `size` behind `anchors`; a slot is valid while every label up to it is to be learned."""
    width = ids.shape[1]
    sources = anchors[..., None] + torch.arange(size, device=ids.device)
    positions = sources + 1
    inside = positions < width
    positions, sources = positions.clamp(max=width - 1), sources.clamp(max=width - 1)

    def take(values: Tensor, at: Tensor) -> Tensor:
        return values.gather(1, at.flatten(1)).view_as(at)

    valid = (take(learn, positions) & inside).int().cumprod(dim=-1).bool()
    return Blocks(anchors, take(ids, positions), take(ids, sources), valid, sources)


def pick_anchors(learn: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """`count` random positions per row out of those before an id to be learned; short rows take useless ones too."""
    before = torch.cat((learn[:, 1:], torch.zeros_like(learn[:, :1])), dim=1)
    chances = before.float().cpu() + 1e-12  # drawn on the CPU, so that each device draws the same
    chosen = torch.multinomial(chances, min(count, learn.shape[1]), replacement=False, generator=generator)
    return chosen.sort(dim=1).values.to(learn.device)


def block_tokens(ids: Tensor, anchors: Tensor, *, size: int, mask: int) -> Tensor:
    """`[batch, a, γ]`: each anchor's token, and masks."""
    tokens = torch.full((*anchors.shape, size), mask, device=ids.device)
    tokens[..., 0] = ids.gather(1, anchors)
    return tokens


def draft_hidden(drafter: Drafter, embedded: Tensor, taps: Tensor, anchors: Tensor) -> Tensor:
    """Hidden states `[batch, a, γ, width]` of all blocks.

    `embedded [batch, a, γ, width]` are their tokens' embeddings, `taps [batch, n, taps·width]` the target's states.
    """
    (batch, count, size, _), n, device = embedded.shape, taps.shape[1], taps.device
    positions = (anchors[..., None] + torch.arange(size, device=device)).flatten(1)
    owner = torch.arange(count, device=device).repeat_interleave(size)
    past = torch.arange(n, device=device) < anchors.repeat_interleave(size, dim=1)[..., None]
    mask = torch.cat((past, (owner[:, None] == owner).expand(batch, -1, -1)), dim=-1)[:, None]
    return drafter.hidden(embedded.flatten(1, 2), positions, taps, mask).reshape(batch, count, size, -1)
