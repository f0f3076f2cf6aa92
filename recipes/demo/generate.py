"""The target's own text: batched generation with a KV cache, greedy or sampled by Gumbel noise."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from model import Cache, Target
from tokenizer import IM_END
from torch import Tensor

COMPACT_EVERY = 24


@dataclass(frozen=True, slots=True)
class Answer:
    """Ids written after a prompt, with the closing `<|im_end|>` if `ended`."""

    prompt: list[int]
    ids: list[int]
    ended: bool

    @property
    def repeated(self) -> float:
        """Share of 8-grams that occurred before in the same answer."""
        grams = [tuple(self.ids[i : i + 8]) for i in range(len(self.ids) - 7)]
        return 1 - len(set(grams)) / len(grams) if grams else 0.0


def gumbel(seed: int, position: int, vocab: int) -> Tensor:
    """Noise `[vocab]` of one position: a function of seed and position, the same for target and drafter."""
    generator = torch.Generator().manual_seed(seed * 100_003 + position)
    return -torch.log(-torch.log(torch.rand(vocab, generator=generator).clamp_(1e-9, 1 - 1e-7)))


@torch.no_grad()
def generate(
    target: Target, prompts: list[list[int]], *, temperature: float, seeds: list[int] | None = None, limit: int = 300
) -> list[Answer]:
    """Answer all `prompts` in one batch. With `seeds` the noise is `gumbel`'s, else torch's own stream."""
    longest = max(map(len, prompts))
    rows = torch.arange(len(prompts))
    capacity = longest + limit
    dtype = target.model.norm.weight.dtype
    caches = [Cache.empty(target.shape, len(prompts), capacity, dtype) for _ in target.model.layers]
    lengths = torch.tensor([len(prompt) for prompt in prompts])
    ids = torch.zeros((len(prompts), longest), dtype=torch.long)
    for i, prompt in enumerate(prompts):
        ids[i, : len(prompt)] = torch.tensor(prompt)
    positions = torch.arange(longest).expand(len(prompts), -1)
    keys = torch.arange(capacity)
    # Keys behind a row's end are padding; each is overwritten before the row gets there.
    hidden, _ = target.model(ids, positions, caches, keys <= positions[:, None, :, None])
    hidden = hidden[rows, lengths - 1]
    written: list[list[int]] = [[] for _ in prompts]
    ended = [False] * len(prompts)
    for step in range(limit):
        logits = target.logits(hidden).float()
        if temperature > 0:
            logits /= temperature
            if seeds is None:
                logits -= torch.log(torch.empty_like(logits).exponential_())
            else:
                at = [(seeds[row], int(lengths[i])) for i, row in enumerate(rows.tolist())]
                logits += torch.stack([gumbel(seed, position, logits.shape[1]) for seed, position in at])
        picked = logits.argmax(dim=1)
        for row, token in zip(rows.tolist(), picked.tolist(), strict=True):
            if not ended[row]:
                written[row].append(token)
                ended[row] = token == IM_END
        if all(ended):
            break
        if step % COMPACT_EVERY == COMPACT_EVERY - 1:
            keep = torch.tensor([i for i, row in enumerate(rows.tolist()) if not ended[row]])
            rows, lengths, picked = rows[keep], lengths[keep], picked[keep]
            caches = [Cache(cache.k[keep], cache.v[keep]) for cache in caches]
        positions = lengths[:, None]
        hidden, _ = target.model(picked[:, None], positions, caches, keys <= positions[:, None, :, None])
        hidden = hidden[:, 0]
        lengths = lengths + 1
    return [Answer(*each) for each in zip(prompts, written, ended, strict=True)]
