"""States are what the reader gives, in bounded disk and memory, however much text there is."""

from __future__ import annotations

import tracemalloc
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspark_local.errors import TrainingError
from dspark_local.training.states import StateCache, bfloat16
from dspark_local.training.text import Text, batches
from tests.training.limits import file_size

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from dspark_local.backend.base import Floats

WIDTH, TAPS = 8, 2


class Reader:
    """States that tell which token they are of."""

    def read(self, tokens: Sequence[int]) -> tuple[Floats, Floats]:
        rows = np.array(tokens, np.float32)[:, None]
        return np.repeat(rows, TAPS * WIDTH, axis=1), np.repeat(-rows, WIDTH, axis=1)


def some(n: int) -> list[Text]:
    return [Text.said((1, 2), range(3, 3 + 20 + i % 50), ended=True, temperature=0.0) for i in range(n)]


def cache(folder: Path, texts: list[Text], cap: int, kept: str = "f32") -> StateCache:
    return StateCache(folder, texts, Reader(), taps=TAPS, width=WIDTH, cap=cap, kept=kept)  # type: ignore[arg-type]


@pytest.mark.parametrize("kept", ["bf16", "f32"])
def test_a_batch_gets_the_states_of_its_tokens(tmp_path: Path, kept: str) -> None:
    texts = some(40)
    states = cache(tmp_path, texts, 1 << 22, kept)
    (shard,) = states.shards(range(40))
    for batch in batches(texts, shard, tokens=512, seed=(1,)):
        found = states.open(shard).states(batch)
        wide = [np.left_shift(a, 16, dtype=np.uint32).view(np.float32) if kept == "bf16" else a
                for a in (found.taps, found.final)]  # fmt: skip
        for array, sign in zip(wide, (1, -1), strict=True):
            assert (array == sign * batch.ids[..., None]).all()


@given(st.floats(width=32, allow_nan=False, allow_infinity=False, min_value=-(2.0**126), max_value=2.0**126))
def test_rounding_to_bfloat16_is_to_the_nearest(value: float) -> None:
    bits = bfloat16(np.array([value], np.float32)).astype(np.uint32)
    near = (bits + np.array([0xFFFFFFFF, 0, 1], np.uint32)) << 16
    errors = np.abs(near.view(np.float32).astype(np.float64) - np.float32(value))
    assert np.isnan(errors[[0, 2]]).any() or errors[1] <= np.nanmin(errors)


def walk(folder: Path, n: int, cap: int) -> tuple[int, int, int]:
    """Peak of the folder, of memory, and tokens read, over two epochs of n texts."""
    texts = some(n)
    states = cache(folder, texts, cap)
    shards = states.shards(range(n))
    disk = 0
    tracemalloc.start()
    for _ in range(2):
        for shard in shards:
            for batch in batches(texts, shard, tokens=1024, seed=(1,)):
                states.open(shard).states(batch)
            disk = max(disk, sum(p.stat().st_size for p in folder.iterdir()))
    memory = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert states.peak <= cap
    return disk, memory, states.captured


def test_disk_and_memory_stay_under_the_cap_at_ten_times_the_data(tmp_path: Path) -> None:
    """What fits is read once; ten times as much is read again each time, and takes no more room."""
    cap = 1 << 19
    tokens = sum(map(len, some(100)))
    disk, memory, captured = walk(tmp_path / "one", 100, cap)
    assert captured == tokens
    much_disk, much_memory, much_captured = walk(tmp_path / "ten", 1000, cap)
    assert disk <= cap
    assert much_disk <= cap
    assert much_captured == 20 * tokens
    assert much_memory < memory + cap // 4


def test_a_text_too_large_for_the_cap_and_a_full_disk_are_told(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="raise --cache"):
        cache(tmp_path / "small", some(3), 4096).shards(range(3))
    states = cache(tmp_path / "full", some(40), 1 << 20)
    with file_size(4096), pytest.raises(TrainingError, match=r"cannot be written.*make room"):
        states.open(states.shards(range(40))[0])
    assert list((tmp_path / "full").iterdir()) == []
