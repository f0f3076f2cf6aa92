"""Counter-based Gumbel noise: a pure function of (seed, choice, position, token).

A seed is a promise, so the hash is ours and pinned by golden integers in the tests. It is SplitMix64 (Steele,
Lea, Flood 2014, *Fast splittable pseudorandom number generators*): a key is mixed from seed, choice and
position, and the token id is the counter of the stream that starts at the key.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

_MASK = 2**64 - 1
_GOLDEN = 0x9E3779B97F4A7C15
_M1 = 0xBF58476D1CE4E5B9
_M2 = 0x94D049BB133111EB


def _mix(z: int) -> int:
    z = ((z ^ (z >> 30)) * _M1) & _MASK
    z = ((z ^ (z >> 27)) * _M2) & _MASK
    return z ^ (z >> 31)


def key(seed: int, choice: int, position: int) -> int:
    """64-bit key of one absolute position in one choice of one seed."""
    state = _mix((seed + _GOLDEN) & _MASK)
    state = _mix(((state ^ choice) + _GOLDEN) & _MASK)
    return _mix(((state ^ position) + _GOLDEN) & _MASK)


def hashes(seed: int, choice: int, position: int, tokens: npt.NDArray[np.integer]) -> npt.NDArray[np.uint64]:
    """64 uniform bits for each token id; shape of `tokens`."""
    z = (tokens.astype(np.uint64) + np.uint64(1)) * np.uint64(_GOLDEN) + np.uint64(key(seed, choice, position))
    z ^= z >> np.uint64(30)
    z *= np.uint64(_M1)
    z ^= z >> np.uint64(27)
    z *= np.uint64(_M2)
    z ^= z >> np.uint64(31)
    return z


def gumbel(seed: int, choice: int, position: int, tokens: npt.NDArray[np.integer]) -> npt.NDArray[np.float64]:
    """Standard Gumbel noise, −log(−log u), for each token id; shape of `tokens`.

    u takes the upper 53 bits at the middle of their cell, so it is never 0 or 1 and the noise is finite.
    """
    bits = (hashes(seed, choice, position, tokens) >> np.uint64(11)).astype(np.float64)
    noise: npt.NDArray[np.float64] = -np.log(-np.log((bits + 0.5) * 2.0**-53))
    return noise
