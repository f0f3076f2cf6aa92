"""What a model would take is told before it is fetched, by its header alone."""

from __future__ import annotations

from collections import namedtuple
from typing import TYPE_CHECKING

import pytest

from dspark_local.cli.main import main
from dspark_local.loading import foresee
from dspark_local.models import download
from dspark_local.models.locations import Pair, find
from dspark_local.models.outline import outline
from dspark_local.models.registry import Source
from dspark_local.outlook import outlook
from tests.models.conftest import REPO
from tests.models.shapes import Size

if TYPE_CHECKING:
    from pathlib import Path

    from tests.models.hub import Hub

MIB = 1 << 20
Memory = namedtuple("Memory", "available")  # noqa: PYI024 - as psutil has it
TARGET = "Some-Q4_0.gguf"


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return Size(1024, 12, 3072, 16, 8).write(tmp_path_factory.mktemp("pair"))


def free(monkeypatch: pytest.MonkeyPatch, mib: int) -> None:
    """So much memory, as far as anybody asks: too little for the pair to be called small."""
    monkeypatch.setattr("psutil.virtual_memory", lambda: Memory(mib * MIB))


def test_an_outline_tells_what_the_file_would(
    hub: Hub, pair: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pair of outlines is placed as the pair is; what is behind the header neither comes nor takes room."""
    target, draft = pair
    hub.repos[REPO] = {TARGET: target.read_bytes()}
    path = outline(download.plan(Source(repo=REPO)), tmp_path)
    assert path.stat().st_size == target.stat().st_size
    assert path.stat().st_blocks * 512 < 2 * MIB
    assert hub.sent < target.stat().st_size / 2
    free(monkeypatch, 700)
    assert foresee(Pair("it", path, draft)).need == foresee(Pair("it", target, draft)).need


def test_before_a_fetch_it_is_said_what_fits(
    hub: Hub, pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With how much context; or why not, and what would."""
    hub.repos[REPO] = {TARGET: pair[0].read_bytes()}
    free(monkeypatch, 700)
    found = outlook(REPO)
    assert found.choice is not None
    assert found.choice.need.total < 700 * MIB
    assert main(["models", "pull", REPO, "--dry-run"]) == 0
    assert f"with a context of {found.choice.n_ctx:,} tokens" in capsys.readouterr().err
    free(monkeypatch, 100)
    found = outlook(REPO)
    assert (found.choice, found.missing) == (None, pair[0].stat().st_size)
    assert "does not fit: " in found.words
    assert "are needed" in found.words


def test_what_has_no_header_has_a_size(hub: Hub) -> None:
    """A file that is no GGUF is told by its size; whoever fetches it is told why it does not load."""
    found = outlook(REPO)
    assert (found.choice, found.refused, found.size) == (None, "", len(hub.repos[REPO][next(iter(hub.repos[REPO]))]))
    assert "the context comes on top" in found.words


def test_nothing_is_asked_of_anybody_about_the_demo(hub: Hub) -> None:
    """What is here is told by what is here."""
    found = outlook("demo")
    assert (found.missing, found.drafter, hub.sent) == (0, True, 0)
    assert found.choice is not None
    assert foresee(find("demo")).n_ctx == found.choice.n_ctx
