"""A model in several files is read as one, and a set that is not whole is refused."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest

import dspark_local
from dspark_local.errors import ModelError, ModelFormatError, ModelNotFoundError
from dspark_local.formats.gguf import GGUF
from dspark_local.formats.inspection import inspect_files
from dspark_local.formats.model import check_model
from tests.formats import tiny
from tests.formats.tiny import I32, U16, Tiny

if TYPE_CHECKING:
    from pathlib import Path

N = 3


def write(folder: Path, model: Tiny, *, stem: str = "m", n: int = N) -> Path:
    """As llama-gguf-split does: metadata in the first, tensors in all, each with its number."""
    names = list(model.tensors)
    for number in range(n):
        split = {"split.count": (U16, n), "split.no": (U16, number), "split.tensors.count": (I32, len(names))}
        keys = (model.keys if number == 0 else {}) | split
        tensors = {name: model.tensors[name] for name in names[number::n]}
        Tiny(model.arch, keys, tensors).write(folder / f"{stem}-{number + 1:05}-of-{n:05}.gguf")
    return folder / f"{stem}-00001-of-{n:05}.gguf"


@pytest.fixture
def split(tmp_path: Path) -> Path:
    return write(tmp_path, tiny.target())


def test_parts_are_read_as_one(split: Path, tmp_path: Path) -> None:
    """The same tensors with the same values as in one file, and as sound."""
    whole, parts = GGUF.open(tiny.target().write(tmp_path / "whole.gguf")), GGUF.open(split)
    assert set(parts.tensors) == set(whole.tensors)
    assert len(parts.tensors) == len(whole.tensors)
    for name, info in whole.tensors.items():
        assert parts.tensors[name].nbytes == info.nbytes
        np.testing.assert_array_equal(parts.rows(name, slice(None)), whole.rows(name, slice(None)))
    assert check_model(parts) == check_model(whole)


def test_a_drafters_heads_are_read_from_any_part(tmp_path: Path) -> None:
    """Of I64 too."""
    draft = tiny.draft(d2t=True)
    parts = GGUF.open(write(tmp_path, draft))
    np.testing.assert_array_equal(parts.ints("d2t"), draft.tensors["d2t"].values)


def test_llama_runs_them(split: Path, tmp_path: Path) -> None:
    """With a drafter; the text is that of the same model in one file."""
    draft = tiny.draft().write(tmp_path / "d.gguf")
    texts = []
    for target in (split, tiny.target().write(tmp_path / "whole.gguf")):
        with dspark_local.load(target, drafter=draft, policy="fixed:3", ctx_size=128, threads=1) as runtime:
            texts.append(runtime.generate("the thing", max_tokens=20).result().tokens)
    assert texts[0] == texts[1]


def renamed(first: Path) -> Path:
    return first.rename(first.with_name("other.gguf"))


def second(first: Path) -> Path:
    return first.with_name(f"m-00002-of-{N:05}.gguf")


def lost(first: Path) -> Path:
    second(first).unlink()
    return first


def foreign(first: Path) -> Path:
    shutil.copy(first.with_name(f"m-00003-of-{N:05}.gguf"), second(first))
    return first


def doubled(first: Path) -> Path:
    keys = {"split.count": (U16, N), "split.no": (U16, 1)}
    name = next(iter(tiny.target().tensors))
    Tiny("qwen3", keys, {name: tiny.target().tensors[name]}).write(second(first))
    return first


def cut(first: Path) -> Path:
    second(first).write_bytes(second(first).read_bytes()[:-100])
    return first


WRONG = {
    "another name": (renamed, ModelFormatError, "not named …-00001-of-00003.gguf"),
    "not the first": (second, ModelFormatError, "give the first, …-00001-of-00003.gguf"),
    "one is missing": (lost, ModelNotFoundError, "part 2 of 3"),
    "one of another set": (foreign, ModelFormatError, "not part 2 of the model"),
    "a tensor twice": (doubled, ModelFormatError, "is in another part too"),
    "a part cut short": (cut, ModelFormatError, "m-00002-of-00003.gguf"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_not_whole_is_refused(split: Path, what: str) -> None:
    """In one line, before llama.cpp sees it."""
    spoil, kind, says = WRONG[what]
    path = spoil(split)
    with pytest.raises(kind, match=says) as raised:
        inspect_files(path)
    assert isinstance(raised.value, ModelError)
    assert "\n" not in str(raised.value)
