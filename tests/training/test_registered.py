"""A pair of files of this machine gets a name in the user's own registry."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from dspark_local.errors import ModelNotFoundError, UsageError
from dspark_local.models import registry
from dspark_local.models.locations import find

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    monkeypatch.setattr(registry, "user_file", lambda: tmp_path / "config" / "models.toml")
    pair = tmp_path / 'a "quoted" target.gguf', tmp_path / "drafter.gguf"
    for path in pair:
        path.write_bytes(b"GGUF")
    return pair


def test_a_name_stands_for_both_files(files: tuple[Path, Path]) -> None:
    """Whatever the user's file held before is still there; twice the same is once."""
    target, drafter = files
    registry.user_file().parent.mkdir()
    before = '[other]\ndescription = "x"\nlicence = "MIT"\nchecked = "no"\n'
    registry.user_file().write_text(before)
    for _ in range(2):
        registry.add("mine", target, drafter, description="a pair of mine")
    pair = find("mine")
    assert (pair.target, pair.drafter) == (target, drafter)
    assert find("mine", "none").drafter is None
    assert registry.user_file().read_text().startswith(before)
    assert registry.rows()["mine"].description == "a pair of mine"
    assert "other" in registry.rows()


def test_a_name_that_is_taken_or_none_is_refused(files: tuple[Path, Path]) -> None:
    target, drafter = files
    with pytest.raises(UsageError, match="is taken"):
        registry.add("demo", target, drafter, description="not the demo")
    with pytest.raises(UsageError, match="no name"):
        registry.registered("a/b", target, drafter)


def test_files_that_went_away_are_told(files: tuple[Path, Path]) -> None:
    target, drafter = files
    registry.add("mine", target, drafter, description="a pair of mine")
    drafter.unlink()
    with pytest.raises(ModelNotFoundError, match="no such file"):
        find("mine")
