"""`convert` by hub id: the hub's own client, against the stand-in of tests/models/hub.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from huggingface_hub import constants

from dspark_local.cli.main import main
from dspark_local.formats.gguf import GGUF
from dspark_local.formats.inspection import inspect_files
from dspark_local.models import cache
from tests.convert import checkpoints
from tests.convert.deepseek import DRAFT_SHARD, TARGET_SHARD, Drafter
from tests.convert.deepseek import TARGET as V4_TARGET
from tests.convert.families import Model
from tests.models.conftest import REPO, hub

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.models.hub import Hub

__all__ = ["hub"]  # a fixture, shared with the tests of the hub
TARGET, DRAFT = "maker/Tiny", "maker/tiny_block4"
Said = tuple[int, str, str]


@pytest.fixture
def run(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Said]:
    """`dspark-local convert` in an empty folder, beside a hub with a pair: exit code, standard output and error."""
    publish(hub, TARGET, checkpoints.target(tmp_path / "T"))
    publish(hub, DRAFT, checkpoints.draft(tmp_path / "D"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")

    def convert(*arguments: str) -> Said:
        code = main(["convert", *arguments])
        return code, *capsys.readouterr()

    return convert


def publish(hub: Hub, repo: str, folder: Path) -> None:
    hub.repos[repo] = {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_pair_from_the_hub_is_converted_and_named_after_its_repositories(run: Callable[..., Said], hub: Hub) -> None:
    """Not after the commits, which are the names of its folders; and nothing is fetched twice."""
    assert run("target", TARGET, "--to", "F16")[:2] == (0, "Tiny-F16.gguf\n")
    assert run("draft", DRAFT, "--target", TARGET, "--to", "Q8_0")[:2] == (0, "dspark-Tiny-Q8_0.gguf\n")
    inspect_files("Tiny-F16.gguf", "dspark-Tiny-Q8_0.gguf")
    assert GGUF.open("Tiny-F16.gguf").meta("general.name") == "Tiny"
    sent, hub.status = hub.sent, 503
    assert run("draft", DRAFT, "--target", TARGET, "--to", "F16")[0] == 0
    assert hub.sent == sent


def test_of_deepseek_v4_only_the_shards_with_stages_are_fetched(
    run: Callable[..., Said], hub: Hub, tmp_path: Path
) -> None:
    """The others are the target's, and a hundred gigabytes."""
    publish(hub, "maker/V4", Drafter(fp8=False).write(tmp_path / "V4"))
    publish(hub, TARGET, Model("qwen3", V4_TARGET).write(tmp_path / "wide"))
    assert run("draft", "maker/V4", "--target", TARGET, "--to", "Q8_0")[:2] == (0, "dspark-Tiny-Q8_0.gguf\n")
    fetched = [line.rpartition("/")[2] for line in hub.asked if line.startswith("GET /maker/V4/")]
    assert DRAFT_SHARD in fetched
    assert TARGET_SHARD not in fetched


def test_a_target_may_be_a_gguf_on_the_hub(run: Callable[..., Said], hub: Hub, tmp_path: Path) -> None:
    """The drafter is written here: the cache's folders are not ours."""
    assert run("target", str(tmp_path / "T"), "--to", "Q8_0", "--out", str(tmp_path / "Tiny-Q8_0.gguf"))[0] == 0
    hub.repos["maker/Tiny-GGUF"] = {"Tiny-Q8_0.gguf": (tmp_path / "Tiny-Q8_0.gguf").read_bytes()}
    assert run("draft", DRAFT, "--target", "maker/Tiny-GGUF:Q8_0")[:2] == (0, "dspark-Tiny-Q4_0.gguf\n")
    inspect_files(tmp_path / "Tiny-Q8_0.gguf", "dspark-Tiny-Q4_0.gguf")


def test_a_repository_with_ggufs_too_is_converted_from_its_checkpoint(run: Callable[..., Said], hub: Hub) -> None:
    """Some publish both."""
    hub.repos[TARGET]["Tiny-Q4_K_M.gguf"] = b"GGUF"
    assert run("target", TARGET, "--to", "F16")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("target", "maker/Nothing"), "the hub has no maker/Nothing"),
        (("target", REPO), "holds no checkpoint"),
        (("draft", DRAFT, "--target", "maker/Nothing"), "the hub has no maker/Nothing"),
        (("target", "nowhere"), "nowhere"),
    ],
)
def test_what_is_not_there_is_one_line(
    run: Callable[..., Said], arguments: tuple[str, ...], says: str, tmp_path: Path
) -> None:
    """Exit code 2, and no file."""
    code, out, err = run(*arguments)
    assert (code, out, err.count("\n")) == (2, "", 1), err
    assert says in err
    assert not list((tmp_path / "here").iterdir())


def test_offline_what_is_here_serves(run: Callable[..., Said], monkeypatch: pytest.MonkeyPatch) -> None:
    """And what is not is one line that says so."""
    assert run("target", TARGET, "--to", "F16")[0] == 0
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert run("target", TARGET, "--to", "BF16")[0] == 0
    code, _, err = run("draft", DRAFT, "--target", TARGET)
    assert (code, err.count("\n")) == (2, 1)
    assert "HF_HUB_OFFLINE" in err
    assert cache.snapshot(DRAFT) is None
