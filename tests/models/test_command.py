"""`dspark-local models`, and a model by its hub id from nothing to an answer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import dspark_local
from dspark_local.cli import progress
from dspark_local.cli.main import main
from dspark_local.convert import convert_target
from dspark_local.models import cache
from dspark_local.models.locations import find
from tests.convert import checkpoints
from tests.formats import tiny
from tests.models.conftest import DATA, FILE, REPO

if TYPE_CHECKING:
    from tests.models.hub import Hub


@pytest.fixture
def said(hub: Hub, capsys: pytest.CaptureFixture[str]) -> object:  # noqa: ARG001 - it must be there
    """Run a command; exit code, standard output, standard error."""

    def run(*arguments: str) -> tuple[int, str, str]:
        code = main(arguments)
        out, err = capsys.readouterr()
        return code, out, err

    return run


def test_a_model_is_pulled_found_listed_and_removed(hub: Hub, said) -> None:
    """Paths go to standard output; whatever else is said, to standard error."""
    code, out, err = said("models", "pull", REPO, "--dry-run")
    assert (code, out) == (0, "")
    assert "1 files, 3 MB, 3 MB to fetch" in err
    assert hub.sent < len(DATA)  # no more than what a header might be in
    assert said("models", "path", REPO)[0] == 2
    code, out, _ = said("models", "pull", f"{REPO}:Q4_K_M")
    assert code == 0
    assert Path(out.strip()).read_bytes() == DATA
    assert said("models", "path", REPO)[:2] == (0, out)
    assert f"{REPO}  3 MB  {FILE}" in said("models", "list")[1]
    assert said("models", "rm", REPO) == (0, "", "dspark-local: 3 MB freed\n")
    assert REPO not in said("models", "list")[1]
    code, _, err = said("models", "rm", REPO)
    assert (code, err) == (2, f"dspark-local: nothing of {REPO} is in the cache\n")


def test_a_file_in_use_that_cannot_be_removed_is_one_line(
    hub: Hub,  # noqa: ARG001 - it must be there
    said,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As on Windows while a program has it open."""
    path = said("models", "pull", REPO)[1].strip()

    def refused(self: Path, **_: object) -> None:
        raise PermissionError(13, "it is being used by another process", str(self))

    monkeypatch.setattr(Path, "unlink", refused)
    code, _, err = said("models", "rm", REPO)
    assert (code, err.count("\n")) == (2, 1)
    assert f"{path} cannot be removed (it is being used by another process)" in err


def test_the_registry_is_told(said) -> None:
    """Names with what is here of them; all that is known of one; where the user's own file belongs."""
    code, out, _ = said("models")
    assert code == 0
    assert out.splitlines()[0].startswith("demo  ")
    assert "on the hub" in out
    _, out, _ = said("models", "info", "gemma-2-27b")
    assert "model: bartowski/gemma-2-2b-it-GGUF" in out
    assert "checked   nothing of this row" in out
    assert said("models", "path", "--registry")[1].strip().endswith("models.toml")
    assert len(said("models", "path", "demo")[1].splitlines()) == 2
    assert said("models", "pull", "demo") == (0, "", "dspark-local: demo needs nothing from the hub\n")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["pull", "qwen3-8"], "did you mean qwen3-8b"),
        (["pull", "deepseek-v4-pro"], "no GGUF of deepseek-v4-pro is known"),
        (["pull", "nobody/nothing"], "the hub has no nobody/nothing"),
        (["path"], "give a MODEL"),
        (["info", REPO], "no model named"),
    ],
)
def test_a_users_mistake_is_one_line(said, arguments: list[str], says: str) -> None:
    """And exit code 2."""
    code, out, err = said("models", *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert says in err


def test_a_pair_by_hub_ids_answers_and_fetches_nothing_the_second_time(hub: Hub, tmp_path: Path) -> None:
    """Without a row in the registry: the target and its drafter from two repositories."""
    hub.repos["maker/T-GGUF"] = {"t-Q8_0.gguf": tiny.target().write(tmp_path / "t.gguf").read_bytes()}
    hub.repos["maker/D-GGUF"] = {"d-Q8_0.gguf": tiny.draft().write(tmp_path / "d.gguf").read_bytes()}
    for _ in range(2):
        with dspark_local.load(
            "maker/T-GGUF:Q8_0", drafter="maker/D-GGUF", policy="fixed:3", ctx_size=128, threads=1
        ) as runtime:
            assert runtime.info.drafter == "dspark"
            assert runtime.generate("the", max_tokens=8).result().stats.draft_n
        asked, hub.asked = hub.asked, []
    assert asked == []


def test_a_drafters_checkpoint_is_converted_once(hub: Hub, tmp_path: Path) -> None:
    """On its first use, for its target, into the cache; from then on it is there."""
    target = checkpoints.target(tmp_path / "T")
    draft = checkpoints.draft(tmp_path / "D")
    gguf = convert_target(target, tmp_path / "t.gguf", type="F32")
    hub.repos["lab/dspark_t"] = {p.name: p.read_bytes() for p in draft.iterdir()}
    first = find(gguf, "lab/dspark_t").drafter
    assert first
    made = first.stat().st_mtime_ns
    hub.asked.clear()
    assert find(gguf, "lab/dspark_t").drafter == first
    assert (first.stat().st_mtime_ns, hub.asked) == (made, [])
    assert cache.files("lab/dspark_t")


def test_long_work_is_told_in_a_pipe_too(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing at first, then a line every ten seconds; on a terminal there would be a bar."""
    now = 0.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    with progress.Progress() as shown:
        for second in range(31):
            now = float(second)
            shown("fetching x.gguf, 1 of 4 GB", second / 40)
    assert capsys.readouterr().err.splitlines() == [
        f"dspark-local: fetching x.gguf, 1 of 4 GB ({share} %)".replace(" %", "%") for share in (25, 50, 75)
    ]
