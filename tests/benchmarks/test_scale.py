"""A scaled pair computes what the pair did that it was made from."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from dspark_local.backend.base import Block, Features, Shape, Span
from dspark_local.backend.llama import LlamaDraft, LlamaTarget
from dspark_local.backend.model import Model
from dspark_local.formats.inspection import inspect_files
from dspark_local.formats.model import Soundness
from tests.formats import tiny

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))  # scripts, not a package

from scale import Size, Types, scaled_pair

if TYPE_CHECKING:
    from gguf import GGMLQuantizationType

    from dspark_local.models.locations import Pair

SIZE = Size(
    name="Larger", n_embd=192, n_ff=256, n_layer=5, n_head=6, n_head_kv=3, n_vocab=500, draft_layers=3, taps=4, rank=64
)
PROMPT = list(range(40, 60))
SHAPE = Shape(n_ctx=64, width=tiny.BLOCK + 1)


@dataclass(frozen=True)
class Numbers:
    """What a pair made of PROMPT: the target's logits, then a block's logits and confidences."""

    logits: np.ndarray
    drafted: np.ndarray
    confidences: np.ndarray


def _run(target_path: Path, draft_path: Path) -> Numbers:
    files = inspect_files(target_path, draft_path)
    assert files.spec is not None
    target = LlamaTarget(Model(target_path), SHAPE, layers=files.spec.target_layers)
    draft = LlamaDraft(Model(draft_path), target, files.spec, SHAPE)
    try:
        (rows,) = target.decode([Span(0, 0, PROMPT[:-4], outputs=0)])
        assert rows.hidden is not None
        draft.inject([Features(0, 0, rows.hidden)])
        (rows,) = target.decode([Span(0, len(PROMPT) - 4, PROMPT[-4:])])
        (drafted,) = draft.draft([Block(0, len(PROMPT) - 4, PROMPT[-4])], tiny.BLOCK)
        assert drafted.confidences is not None
        return Numbers(rows.logits.copy(), drafted.logits.copy(), drafted.confidences.copy())
    finally:
        draft.close()
        target.close()


@pytest.fixture(scope="module", params=[tiny.PLAIN, tiny.F16, tiny.Q8_0, tiny.Q4_0], ids=lambda kind: kind.name)
def kind(request: pytest.FixtureRequest) -> GGMLQuantizationType:
    return request.param


@pytest.fixture(scope="module", params=[False, True], ids=["shared heads", "own heads"])
def made(request: pytest.FixtureRequest, kind: GGMLQuantizationType, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    folder = tmp_path_factory.mktemp("pair")
    target = tiny.target(kind=kind, untied=request.param).write(folder / "target.gguf")
    draft = tiny.draft(kind=kind, own_heads=request.param).write(folder / "draft.gguf")
    return scaled_pair(SIZE, model=target, drafter=draft, folder=folder / "scaled")


@pytest.fixture(scope="module")
def both(made: Pair) -> tuple[Numbers, Numbers]:
    assert made.drafter is not None
    folder = made.target.parents[1]
    return _run(folder / "target.gguf", folder / "draft.gguf"), _run(made.target, made.drafter)


def test_the_scaled_files_have_the_whole_shape(made: Pair) -> None:
    """Every tensor has the size that the larger shape asks for, and the pair passes every check."""
    files = inspect_files(made.target, made.drafter)
    assert files.soundness is Soundness.SOUND
    assert files.draft is not None
    assert files.target.tensors["blk.4.ffn_down.weight"].has_shape(256, 192)
    assert files.target.tensors["token_embd.weight"].has_shape(192, 500)
    assert files.draft.tensors["fc.weight"].has_shape(4 * 192, 192)
    assert files.draft.tensors["markov_w1.weight"].has_shape(64, 500)
    assert files.draft.tensors["blk.2.attn_q.weight"].has_shape(192, 6 * 32)
    assert files.target.meta("qwen3.attention.layer_norm_rms_epsilon") == pytest.approx(1e-6 * 64 / 192)
    assert files.spec is not None
    assert files.spec.target_layers == (0, 1, 3, 4)


def test_types_change_where_asked(tmp_path: Path) -> None:
    """The embedding and the drafter's matrices can be stored in another type; new layers follow."""
    target = tiny.target(kind=tiny.Q4_0).write(tmp_path / "target.gguf")
    draft = tiny.draft(kind=tiny.F16).write(tmp_path / "draft.gguf")
    types = Types(embedding=tiny.Q8_0, drafter=tiny.Q4_0)
    made = scaled_pair(SIZE, model=target, drafter=draft, types=types, folder=tmp_path)
    files = inspect_files(made.target, made.drafter)
    assert files.draft is not None
    assert files.target.tensors["token_embd.weight"].type.name == "Q8_0"
    assert files.target.tensors["blk.4.attn_q.weight"].type.name == "Q4_0"
    assert files.draft.tensors["blk.2.attn_q.weight"].type.name == "Q4_0"
    assert files.draft.tensors["conf_proj.weight"].type.name == "F16"
    before, after = _run(target, draft), _run(made.target, made.drafter)
    assert np.corrcoef(before.logits.ravel(), after.logits[:, : tiny.N_VOCAB].ravel())[0, 1] > 0.98


def test_logits_and_confidences_stay_as_they_were(both: tuple[Numbers, Numbers], kind: GGMLQuantizationType) -> None:
    """Logits, drafted logits and confidences agree to rounding, which 8-bit activations make coarser."""
    before, after = both
    rounding = 0.2 if kind in {tiny.Q4_0, tiny.Q8_0} else 0.01
    for a, b in ((before.logits, after.logits), (before.drafted, after.drafted)):
        assert a.std() > 0.5
        assert np.abs(a - b[:, : tiny.N_VOCAB]).max() < rounding
        picked = a[range(len(a)), b.argmax(1)]
        assert (picked >= a.max(1) - 2 * rounding).all()
    assert np.abs(before.confidences - after.confidences).max() < rounding


def test_new_tokens_are_never_drawn(both: tuple[Numbers, Numbers]) -> None:
    """The probability of all new tokens together is nothing that a sampler could meet."""
    _, after = both
    for logits in (after.logits, after.drafted):
        assert (logits[:, tiny.N_VOCAB :].max(axis=1) < logits[:, : tiny.N_VOCAB].max(axis=1) - 100).all()


def test_a_pair_that_is_there_is_not_made_again(made: Pair) -> None:
    """Scaling twice leaves the files of the first time."""
    folder = made.target.parents[1]
    before = made.target.stat().st_mtime_ns
    again = scaled_pair(SIZE, model=folder / "target.gguf", drafter=folder / "draft.gguf", folder=folder / "scaled")
    assert again.target.stat().st_mtime_ns == before
