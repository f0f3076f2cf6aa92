"""A trimmed drafter is the same drafter over fewer tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

import dspark_local
from dspark_local import SamplingParams
from dspark_local.backend.base import Block, Features, Shape, Span
from dspark_local.cli.main import main
from dspark_local.convert import trim_draft
from dspark_local.errors import ConvertError, PairError
from dspark_local.formats.gguf import GGUF
from dspark_local.formats.inspection import inspect_files
from tests.formats import tiny
from tests.real.pairs import opened

if TYPE_CHECKING:
    from pathlib import Path

KEPT = tiny.N_VOCAB // 2


@pytest.fixture(params=["tied", "untied", "own heads"])
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Path]:
    """Whose head the drafter uses: the target's embedding, the target's head, its own."""
    target = tiny.target(untied=request.param != "tied").write(tmp_path / "t.gguf")
    return target, tiny.draft(own_heads=request.param == "own heads").write(tmp_path / "d.gguf")


def block(target: Path, draft: Path) -> tuple[np.ndarray, np.ndarray]:
    """Logits and confidence of the first draft behind some tokens."""
    with opened(target, draft, Shape(n_ctx=256, width=4)) as (model, drafter, _):
        (rows,) = model.decode([Span(0, 0, [1, 2, 3], outputs=0)])
        assert rows.hidden is not None
        drafter.inject([Features(0, 0, rows.hidden)])
        (drafted,) = drafter.draft([Block(0, 3, 4)], 1)
        assert drafted.confidences is not None
        return drafted.logits[0].copy(), drafted.confidences.copy()


def test_what_it_keeps_it_drafts_with_the_same_logits(pair: tuple[Path, Path], tmp_path: Path) -> None:
    """And with the same confidence; what it does not keep, never."""
    target, draft = pair
    counts = np.random.default_rng(3).integers(0, 9, tiny.N_VOCAB)
    out = trim_draft(draft, target, tmp_path / "out.gguf", tokens=KEPT, counts=counts)
    inspect_files(target, out)
    ids = GGUF.open(out).ints("d2t")
    assert len(ids) == KEPT
    whole, sure = block(target, draft)
    trimmed, as_sure = block(target, out)
    np.testing.assert_array_equal(as_sure, sure)
    np.testing.assert_allclose(trimmed[ids], whole[ids], rtol=1e-5, atol=1e-5)
    assert np.isneginf(np.delete(trimmed, ids)).all()


def test_the_text_stays_the_targets(tmp_path: Path) -> None:
    target, draft = tiny.target().write(tmp_path / "t.gguf"), tiny.draft().write(tmp_path / "d.gguf")
    out = trim_draft(draft, target, tmp_path / "out.gguf", tokens=KEPT)
    texts = []
    for drafter in ("none", out):
        with dspark_local.load(
            target, drafter=drafter, policy="fixed:3", fixed_width=4, ctx_size=256, threads=1
        ) as runtime:
            drawn = (SamplingParams(temperature=t, seed=5) for t in (0, 1.0))
            texts.append([runtime.generate("then another", params, max_tokens=40).result().tokens for params in drawn])
    assert texts[0] == texts[1]


def test_it_keeps_what_is_frequent_and_all_control_tokens(tmp_path: Path) -> None:
    target, draft = tiny.target().write(tmp_path / "t.gguf"), tiny.draft().write(tmp_path / "d.gguf")
    kinds = GGUF.open(target).meta("tokenizer.ggml.token_type")
    assert isinstance(kinds, tuple)
    control = {i for i, kind in enumerate(kinds) if kind in (3, 4)}
    text = tmp_path / "text.txt"
    text.write_text("thenthenthen", encoding="utf-8")
    out = tmp_path / "out.gguf"
    tokens = len(control) + 3
    command = ["convert", "trim", str(draft), "--target", str(target), "--tokens", str(tokens), "--text", str(text)]
    assert main([*command, "--out", str(out)]) == 0
    with dspark_local.load(target, drafter="none", ctx_size=256) as runtime:
        frequent = set(runtime.vocab.encode("thenthenthen", special=False))
    kept = set(GGUF.open(out).ints("d2t").tolist())
    assert len(kept) == tokens
    assert control | frequent <= kept


def test_bad_input_is_one_line_and_leaves_no_file(tmp_path: Path) -> None:
    target, draft = tiny.target().write(tmp_path / "t.gguf"), tiny.draft().write(tmp_path / "d.gguf")
    out = tmp_path / "out.gguf"
    for n in (0, tiny.N_VOCAB):
        with pytest.raises(ConvertError, match="lie between 1 and"):
            trim_draft(draft, target, out, tokens=n)
    trimmed = tiny.draft(d2t=True).write(tmp_path / "trimmed.gguf")
    with pytest.raises(ConvertError, match="of its own already"):
        trim_draft(trimmed, target, out, tokens=9)
    other = tiny.draft()
    tokens = other.keys["tokenizer.ggml.tokens"]
    assert isinstance(tokens, tiny.Array)
    renamed = tiny.Array(tokens.kind, ["another", *tokens.values[1:]])
    stranger = other.with_keys(tokenizer__ggml__tokens=renamed).write(tmp_path / "stranger.gguf")
    with pytest.raises(PairError, match="its tokenizer is another"):
        trim_draft(stranger, target, out, tokens=9)
    (tmp_path / "latin").write_bytes(b"\xff\xfe\xfa")
    command = ["convert", "trim", str(draft), "--target", str(target), "--tokens", "9"]
    assert main([*command, "--text", str(tmp_path / "latin"), "--out", str(out)]) == 2
    assert not out.exists()
