"""Drafters with a wrongly tied head are mended, and no others are touched."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from dspark_local.cli.main import main
from dspark_local.convert import repair_draft
from dspark_local.errors import ConvertError, PairError
from dspark_local.formats.gguf import GGUF
from dspark_local.formats.inspection import inspect_files
from tests.formats import tiny
from tests.formats.tiny import Tensor

if TYPE_CHECKING:
    from pathlib import Path


def tied_wrongly(folder: Path, *, noise: float = 0.0) -> tuple[Path, Path]:
    """A pair as llama.cpp's converter leaves it: the target's embedding in the drafter, and no head."""
    target = tiny.target(untied=True, kind=tiny.F16)
    values = target.tensors["token_embd.weight"].values
    values = values + noise * np.random.default_rng(0).standard_normal(values.shape).astype(np.float32)
    draft = tiny.draft(kind=tiny.Q8_0).with_tensors({"token_embd.weight": Tensor(values, tiny.Q8_0)})
    return target.write(folder / "t.gguf"), draft.write(folder / "d.gguf")


def test_a_tied_head_is_mended(tmp_path: Path) -> None:
    """The loader names the command; afterwards the pair is sound, and all other tensors and keys are as they were."""
    target, draft = tied_wrongly(tmp_path)
    with pytest.raises(PairError, match="dspark-local convert repair"):
        inspect_files(target, draft)
    before = GGUF.open(draft)
    assert main(["convert", "repair", str(draft), "--target", str(target)]) == 0
    after = GGUF.open(draft)
    inspect_files(target, draft)
    assert set(before.tensors) - set(after.tensors) == {"token_embd.weight"}
    assert before.header.entries.keys() == after.header.entries.keys()
    for key in after.header.entries:
        assert after.raw(key) == before.raw(key)


def test_bytes_of_what_stays_are_the_same(tmp_path: Path) -> None:
    """Nothing is decoded on the way."""
    target, draft = tied_wrongly(tmp_path)
    repair_draft(draft, target, tmp_path / "mended.gguf")
    before, after = GGUF.open(draft), GGUF.open(tmp_path / "mended.gguf")
    old, new = draft.read_bytes(), after.path.read_bytes()
    for name, info in after.tensors.items():
        at = before.tensors[name].offset
        assert new[info.offset : info.offset + info.nbytes] == old[at : at + info.nbytes]


def test_a_sound_drafter_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One that owns both or neither, and any beside a tied target."""
    target, wrong = tied_wrongly(tmp_path)
    own = tiny.draft(own_heads=True).write(tmp_path / "own.gguf")
    neither = tiny.draft().write(tmp_path / "neither.gguf")
    tied = tiny.target().write(tmp_path / "tied.gguf")
    for draft, of in ((own, target), (neither, target), (wrong, tied)):
        before = draft.read_bytes()
        assert main(["convert", "repair", str(draft), "--target", str(of)]) == 0
        assert "needs no mending" in capsys.readouterr().err
        assert draft.read_bytes() == before


def test_an_embedding_of_its_own_cannot_be_mended(tmp_path: Path) -> None:
    """Its head is lost; rounding to few bits is not taken for one."""
    target, draft = tied_wrongly(tmp_path, noise=0.5)
    with pytest.raises(ConvertError, match="an embedding of its own"):
        repair_draft(draft, target, draft)
    target, draft = tied_wrongly(tmp_path, noise=0.005)
    assert repair_draft(draft, target, draft) == draft


def test_what_is_no_drafter_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And nothing changes."""
    target, _ = tied_wrongly(tmp_path)
    assert main(["convert", "repair", str(target), "--target", str(target)]) == 2
    assert "not a DSpark drafter" in capsys.readouterr().err
