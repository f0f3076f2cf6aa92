"""The Markov head's rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from dspark_local.backend.candidates import Candidates
from dspark_local.backend.heads import MarkovHead
from dspark_local.errors import ModelFormatError
from dspark_local.formats.gguf import GGUF
from tests.formats import tiny
from tests.formats.tiny import BOOL, Tensor, Tiny

if TYPE_CHECKING:
    from pathlib import Path

    from gguf import GGMLQuantizationType


def head(model: Tiny, tmp_path: Path, name: str = "d.gguf") -> MarkovHead:
    return MarkovHead(GGUF.open(model.write(tmp_path / name)))


def test_rows_are_the_files(tmp_path: Path) -> None:
    """W1, W2 and the confidence head's part for W1 come back as written, to f16."""
    draft = tiny.draft(kind=tiny.F16)
    ours = head(draft, tmp_path)
    w1, w2 = (draft.tensors[name].values.astype(np.float16) for name in ("markov_w1.weight", "markov_w2.weight"))
    np.testing.assert_array_equal(ours.w1([9, 0, 9]), w1[[9, 0, 9]])
    np.testing.assert_array_equal(ours.w2(np.array([3, 263])), w2[[3, 263]])
    assert ours.confidence is not None
    part = draft.tensors["conf_proj.weight"].values.astype(np.float16)[0, tiny.N_EMBD :]
    np.testing.assert_array_equal(ours.confidence, part)


def test_w2_goes_by_target_token_through_d2t(tmp_path: Path) -> None:
    """With a reduced vocabulary target token 2k is draft row k; odd tokens, which it lacks, give zeros."""
    draft = tiny.draft(d2t=True, kind=tiny.F16)
    w2 = draft.tensors["markov_w2.weight"].values.astype(np.float16)
    found = head(draft, tmp_path).w2([4, 5, 262])
    np.testing.assert_array_equal(found, [w2[2], np.zeros(tiny.RANK), w2[131]])


def test_w2_is_scaled(tmp_path: Path) -> None:
    """`markov_w2.scale` multiplies W2 and not W1."""
    draft = tiny.draft()
    scaled = draft.with_tensors({"markov_w2.scale": Tensor(np.full(1, 0.5, np.float32))})
    plain, ours = head(draft, tmp_path), head(scaled, tmp_path, "scaled.gguf")
    np.testing.assert_array_equal(ours.w1([1]), plain.w1([1]))
    np.testing.assert_array_equal(ours.w2([1]), plain.w2([1]) / 2)


@pytest.mark.parametrize("kind", [tiny.F16, tiny.Q8_0])
@pytest.mark.parametrize("d2t", [False, True])
def test_rows_are_rebased_by_what_w1_and_w2_say(tmp_path: Path, kind: GGMLQuantizationType, d2t: bool) -> None:
    """Logits gain scaled W2 · (W1 of the token picked − W1 of the graph's own); tokens without a row gain nothing."""
    scale = {"markov_w2.scale": Tensor(np.full(1, 0.5, np.float32))}
    ours = head(tiny.draft(d2t=d2t, kind=kind).with_tensors(scale), tmp_path)
    ids = np.arange(0, tiny.N_VOCAB, 3)
    row = Candidates(ids, np.linspace(2, -2, ids.size, dtype=np.float32))
    rebased = ours.rebase(row, 0.9, 4, 7)
    gained = ours.w2(row.ids) @ (ours.w1([7])[0] - ours.w1([4])[0])
    assert gained.any()
    np.testing.assert_allclose(rebased.logits, row.logits + gained, rtol=1e-5, atol=1e-6)
    assert ours.rebase(row, 0.9, 4, 4).confidence == pytest.approx(0.9)


def test_a_drafter_without_one_is_refused(tmp_path: Path) -> None:
    """A plain DFlash drafter has no Markov head to read."""
    names = ("markov_w1.weight", "markov_w2.weight", "conf_proj.weight", "conf_proj.bias")
    plain = tiny.draft().with_tensors(dict.fromkeys(names)).with_keys(dflash__has_confidence_head=(BOOL, False))
    with pytest.raises(ModelFormatError, match="has no Markov head"):
        head(plain, tmp_path)
