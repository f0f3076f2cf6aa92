"""Draft blocks cut out of known text: many anchors per row in one pass, each block seeing only its own past."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from model import Drafter, Target


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
    sources = anchors[..., None] + torch.arange(size)
    positions = sources + 1
    inside = positions < width
    positions, sources = positions.clamp(max=width - 1), sources.clamp(max=width - 1)

    def take(values: Tensor, at: Tensor) -> Tensor:
        return values.gather(1, at.flatten(1)).view_as(at)

    valid = (take(learn, positions) & inside & learn.gather(1, anchors)[..., None]).int().cumprod(dim=-1).bool()
    return Blocks(anchors, take(ids, positions), take(ids, sources), valid, sources)


def pick_anchors(learn: Tensor, count: int) -> Tensor:
    """Up to `count` random positions per row out of those to be learned; short rows repeat some."""
    chosen = torch.multinomial(learn.float() + 1e-12, count, replacement=False)
    return chosen.sort(dim=1).values


def draft_hidden(drafter: Drafter, target: Target, ids: Tensor, layers: list[Tensor], anchors: Tensor) -> Tensor:
    """Hidden states `[batch, a, γ, width]` of all blocks, from the target's layer outputs on the whole row."""
    size, (batch, width), count = drafter.draft.block_size, ids.shape, anchors.shape[1]
    taps = torch.cat([layers[i] for i in drafter.draft.target_layer_ids], dim=-1)
    tokens = torch.full((batch, count, size), drafter.draft.mask_token_id)
    tokens[..., 0] = ids.gather(1, anchors)
    positions = (anchors[..., None] + torch.arange(size)).flatten(1)
    owner = torch.arange(count).repeat_interleave(size)
    past = torch.arange(width) < anchors.repeat_interleave(size, dim=1)[..., None]
    mask = torch.cat((past, (owner[:, None] == owner).expand(batch, -1, -1)), dim=-1)[:, None]
    block = target.model.embed_tokens(tokens.flatten(1))
    return drafter.hidden(block, positions, taps, mask).reshape(batch, count, size, -1)
