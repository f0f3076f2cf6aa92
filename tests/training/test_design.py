"""What a drafter is like by default, and what is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspark_local.errors import UsageError
from dspark_local.formats.gguf import GGUF
from dspark_local.training.design import default_depth, default_taps, design
from tests.formats import tiny

if TYPE_CHECKING:
    from pathlib import Path


def test_published_choices_come_out() -> None:
    """dspark_qwen3_4b: 36 layers, drafter of 5; the demo: 6 layers, drafter of 2."""
    assert default_taps(36) == (1, 9, 17, 25, 33)
    assert default_taps(6) == (0, 2, 4)
    assert (default_depth(36), default_depth(6), default_depth(2)) == (5, 2, 1)


@given(st.integers(2, 200))
def test_taps_lie_below_the_last_layer_and_are_distinct(n_layer: int) -> None:
    taps = default_taps(n_layer)
    assert list(taps) == sorted(set(taps))
    assert taps[0] >= 0
    assert taps[-1] < n_layer - 1


def test_the_shape_is_the_targets(tmp_path: Path) -> None:
    found = design(GGUF.open(tiny.target().write(tmp_path / "t.gguf")))
    shape = found.shape
    assert (shape.hidden_size, shape.head_dim, shape.num_attention_heads) == (tiny.N_EMBD, tiny.HEAD_DIM, tiny.N_HEAD)
    assert (shape.vocab_size, shape.rope_theta, found.mask_token_id) == (tiny.N_VOCAB, 10000.0, tiny.MASK)
    assert (found.target_layer_ids, found.taps) == ((0,), (1,))


def test_what_does_not_fit_the_target_is_refused(tmp_path: Path) -> None:
    target = GGUF.open(tiny.target().write(tmp_path / "t.gguf"))
    with pytest.raises(UsageError, match="between 0 and 0"):
        design(target, layers=(1,))
    with pytest.raises(UsageError, match="one of the 264 tokens"):
        design(target, mask=264)


def test_a_target_without_a_spare_token_wants_one_named(tmp_path: Path) -> None:
    """Control tokens that mean something are never taken."""
    names = [t.replace("mask", "tool") for t in tiny.tokens()]
    bent = tiny.target().with_keys(tokenizer__ggml__tokens=tiny.Array(tiny.STR, names))
    target = GGUF.open(bent.write(tmp_path / "t.gguf"))
    with pytest.raises(UsageError, match="--mask-token"):
        design(target)
    assert design(target, mask=3).mask_token_id == 3
