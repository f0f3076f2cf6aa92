"""How likely the target itself held a token: its own distribution, before temperature and all that follows."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from dspark_local.sampling.truncation import top_k
from dspark_local.types import TokenLogprob, TokenLogprobs

if TYPE_CHECKING:
    from dspark_local.sampling.truncation import Logits


def logprobs(logits: Logits, token: int, top: int) -> TokenLogprobs:
    """Log-probability of `token` in softmax(logits [n_vocab]), and of the `top` likeliest, the likeliest first."""
    highest = float(logits.max())
    total = highest + math.log(float(np.exp(logits - np.float32(highest)).sum(dtype=np.float64)))
    best = top_k(logits, min(top, logits.size)) if top else np.empty(0, np.int64)
    best = best[np.lexsort((best, -logits[best]))]
    likeliest = tuple(TokenLogprob(int(v), float(logits[v]) - total) for v in best)
    return TokenLogprobs(token, float(logits[token]) - total, likeliest)
