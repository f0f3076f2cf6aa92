"""How far a drafter gets on answers that it does not learn from: greedy drafts, each behind the one before."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from dspark_local.training.blocks import block_tokens, cut_blocks, draft_hidden
from dspark_local.training.losses import slices
from dspark_local.training.replay import Tally
from dspark_local.training.text import Batch

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np
    import numpy.typing as npt
    from torch import Tensor

    from dspark_local.training.heads import TorchHeads
    from dspark_local.training.network import Drafter
    from dspark_local.training.states import StateCache
    from dspark_local.training.text import Text


@torch.no_grad()
def judge(
    drafter: Drafter, heads: TorchHeads, cache: StateCache, texts: Sequence[Text], indices: Sequence[int]
) -> Tally:
    """Replay the answers of these texts."""

    def agreed() -> Iterator[npt.NDArray[np.bool_]]:
        for shard in cache.shards(indices):
            opened = cache.open(shard)
            for i in shard:
                batch = Batch.of(texts, [i])
                yield _agreed(drafter, heads, batch, heads.tensor(opened.states(batch).taps), len(texts[i].prompt))

    return Tally.of(agreed(), drafter.design.block_size)


def _agreed(
    drafter: Drafter, heads: TorchHeads, batch: Batch, taps: Tensor, prompt: int
) -> npt.NDArray[np.bool_]:
    """Whether each drafted token is the text's [anchors, γ], for the last of the prompt and all later anchors."""
    ids, learn = heads.tokens(batch.ids), heads.flags(batch.learn)
    anchors = torch.arange(prompt - 1, ids.shape[1] - 1, device=ids.device)[None]
    size = drafter.design.block_size
    blocks = cut_blocks(ids, learn, anchors, size)
    tokens = block_tokens(ids, anchors, size=size, mask=drafter.design.mask_token_id)
    hidden = draft_hidden(drafter, heads.embed(tokens), taps, anchors)[0]
    previous = tokens[0, :, 0]
    right = []
    for k in range(size):
        bias, rows = drafter.markov_head.markov_w1(previous), hidden[:, k]
        picked = [
            (functional.linear(rows[at], heads.head) + drafter.markov_head.markov_w2(bias[at])).argmax(dim=-1)
            for at in slices(len(rows), heads.head)
        ]
        previous = torch.cat(picked)
        right.append((previous == blocks.labels[0, :, k]) & blocks.valid[0, :, k])
    agreed: npt.NDArray[np.bool_] = torch.stack(right, dim=1).cpu().numpy()
    return agreed
