"""Counter-based Gumbel noise: a pure function of (seed, choice, position, token).

A seed is a promise, so the hash is ours and pinned by golden integers in the tests. It is SplitMix64 (Steele,
Lea, Flood 2014, *Fast splittable pseudorandom number generators*): a key is mixed from seed, choice and
position, and the token id is the counter of the stream that starts at the key.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

_MASK = 2**64 - 1
_GOLDEN = 0x9E3779B97F4A7C15
_M1 = 0xBF58476D1CE4E5B9
_M2 = 0x94D049BB133111EB
_GOLDEN_64, _M1_64, _M2_64, _11, _27, _30, _31 = map(np.uint64, (_GOLDEN, _M1, _M2, 11, 27, 30, 31))


def _mix(z: int) -> int:
    z = ((z ^ (z >> 30)) * _M1) & _MASK
    z = ((z ^ (z >> 27)) * _M2) & _MASK
    return z ^ (z >> 31)


@lru_cache(maxsize=64)  # of the texts that are being written
def _text(seed: int, choice: int) -> int:
    return _mix(((_mix((seed + _GOLDEN) & _MASK) ^ choice) + _GOLDEN) & _MASK)


def key(seed: int, choice: int, position: int) -> int:
    """64-bit key of one absolute position in one choice of one seed."""
    return _mix(((_text(seed, choice) ^ position) + _GOLDEN) & _MASK)


def hashes(seed: int, choice: int, position: int, tokens: npt.NDArray[np.integer]) -> npt.NDArray[np.uint64]:
    """64 uniform bits for each token id; shape of `tokens`."""
    z = tokens.astype(np.uint64)
    z *= _GOLDEN_64
    z += np.uint64((key(seed, choice, position) + _GOLDEN) & _MASK)  # the stream's first number is one step behind
    z ^= z >> _30
    z *= _M1_64
    z ^= z >> _27
    z *= _M2_64
    z ^= z >> _31
    return z


def gumbel(seed: int, choice: int, position: int, tokens: npt.NDArray[np.integer]) -> npt.NDArray[np.float64]:
    """Standard Gumbel noise, −log(−log u), for each token id; shape of `tokens`.

    u takes the upper 53 bits at the middle of their cell, so it is never 0 or 1 and the noise is finite.
    """
    u = (hashes(seed, choice, position, tokens) >> _11).astype(np.float64)
    u += 0.5
    u *= 2.0**-53
    return _minus_log(_minus_log(u))


def _minus_log(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """−log x, in place."""
    return np.negative(np.log(x, out=x), out=x)
