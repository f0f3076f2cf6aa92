"""The temperature of a position: fixed, or the higher the less the model is sure."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from dspark_local.sampling.truncation import Logits
    from dspark_local.types import SamplingParams

_HOTTEST = 1e30  # any that is higher draws evenly, too


def temperature(logits: Logits, params: SamplingParams) -> float:
    """Temperature for the logits [n] that truncation left, as llama.cpp's `temp_ext` has it.

    T − r + 2r·(H / log n)^e, H their entropy, r and e the dynamic range and exponent; never below 0.
    """
    middle, around = min(params.temperature, _HOTTEST), min(params.dynatemp_range, _HOTTEST)
    if not around or logits.size < 2:  # noqa: PLR2004 - one token has no entropy
        return middle
    logs = logits.astype(np.float64) - float(logits.max())
    weights = np.exp(logs)
    total = float(weights.sum())
    mean = float(np.multiply(weights, logs, out=np.zeros_like(logs), where=weights > 0).sum()) / total
    entropy = math.log(total) - mean
    unsure = min(1.0, max(0.0, entropy / math.log(logits.size)))
    least = max(0.0, middle - around)
    span = middle + around - least
    return least + span * math.pow(unsure, params.dynatemp_exponent)
