"""Fetching through the hub's real client from a stand-in for the hub: whatever happens, the cache is usable."""

from __future__ import annotations

import shutil
from time import monotonic, sleep
from typing import TYPE_CHECKING, NamedTuple

import pytest
from huggingface_hub import constants, try_to_load_from_cache

from dspark_local.errors import DownloadError, DSparkError, ModelNotFoundError
from dspark_local.models import cache, download
from dspark_local.models.locations import find
from dspark_local.models.registry import Source
from tests.models.conftest import DATA, FILE, REPO
from tests.models.hub import PIECE, Hub, sha256

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

SOURCE = Source(repo=REPO)
PATIENCE = 60


def fetched(source: Source = SOURCE) -> Path:
    return download.fetch(download.plan(source))


def leftovers() -> list[str]:
    """Files in the cache that are neither the model nor bookkeeping."""
    return [p.name for p in cache.folder().rglob("*.incomplete")]


def test_a_file_arrives_where_other_tools_find_it(hub: Hub) -> None:
    """Bytes, name and place are those of the hub's shared cache; a second time nothing is fetched or even asked."""
    path = fetched()
    assert path.read_bytes() == DATA
    assert try_to_load_from_cache(REPO, FILE) == str(path)
    assert hub.sent == len(DATA)
    asked = len(hub.asked)
    assert find(REPO).target == path
    assert len(hub.asked) == asked
    assert leftovers() == []


def test_where_no_links_can_be_made_a_file_is_there_once(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Windows without developer mode: the client copies; removing it frees it, and it is fetched anew."""

    def refused(*_: object, **__: object) -> None:
        raise OSError("a required privilege is not held by the client")

    monkeypatch.setattr("os.symlink", refused)
    monkeypatch.setattr("huggingface_hub.file_download._are_symlinks_supported_in_dir", {})
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_SYMLINKS_WARNING", True)
    path = fetched()
    assert path.read_bytes() == DATA
    assert [p for p in cache.folder().rglob("*") if p.is_file() and p.stat().st_size == len(DATA)] == [path]
    assert cache.remove(REPO, [FILE]) == len(DATA)
    assert download.present(SOURCE) is None
    assert fetched() == path
    assert hub.sent == 2 * len(DATA)


def test_a_dry_run_tells_sizes_and_fetches_nothing(hub: Hub) -> None:
    """What is here already is not counted."""
    plan = download.plan(SOURCE)
    assert (plan.size, plan.missing, hub.sent) == (len(DATA), len(DATA), 0)
    fetched()
    assert download.plan(SOURCE).missing == 0


def test_progress_counts_bytes_up_to_all(hub: Hub) -> None:
    """Shares rise to 1, and the words say what of how much."""
    hub.pause = 0.01
    heard: list[tuple[str, float]] = []
    download.fetch(download.plan(SOURCE), lambda stage, share: heard.append((stage, share)))
    shares = [share for stage, share in heard if stage.startswith(f"fetching {FILE}, ")]
    assert len(shares) > 2
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert f"of {len(DATA) / 1e6:.0f} MB" in heard[0][0]


def test_a_cut_connection_is_resumed(hub: Hub) -> None:
    """Within one attempt: the second request asks for the rest only."""
    hub.cuts = [10 * PIECE]
    assert fetched().read_bytes() == DATA
    assert hub.ranges == [None, f"bytes={10 * PIECE}-"]


def test_an_attempt_that_failed_is_continued_by_the_next(hub: Hub) -> None:
    """Across attempts: what had arrived is not sent again."""
    hub.cuts = [10 * PIECE, *[0] * 9]
    with pytest.raises(DownloadError, match="goes on where it stopped"):
        fetched()
    assert len(leftovers()) == 1
    hub.cuts, sent = [], hub.sent
    assert download.plan(SOURCE).missing == len(DATA) - sent
    assert fetched().read_bytes() == DATA
    assert hub.sent == len(DATA)
    assert leftovers() == []


def test_damaged_bytes_never_enter_the_cache(hub: Hub) -> None:
    """A wrong SHA-256 is an error that says so; the file is not there, and the next attempt begins anew."""
    hub.damaged = True
    with pytest.raises(DownloadError, match="arrived damaged"):
        fetched()
    assert download.present(SOURCE) is None
    assert leftovers() == []
    hub.damaged = False
    assert fetched().read_bytes() == DATA


@pytest.mark.usefixtures("hub")
def test_a_partial_file_that_is_damaged_is_thrown_away() -> None:
    """Were it from another time, the sum would tell."""
    partial = cache.blob(REPO, f"{sha256(DATA)}.dspark.incomplete")
    partial.parent.mkdir(parents=True)
    partial.write_bytes(b"x" * 100)
    with pytest.raises(DownloadError, match="damaged"):
        fetched()
    assert fetched().read_bytes() == DATA
    partial.write_bytes(b"x" * (len(DATA) + 1))  # longer than the file: not even tried
    shutil.rmtree(partial.parent.parent / "snapshots")
    cache.blob(REPO, sha256(DATA)).unlink()
    assert fetched().read_bytes() == DATA


@pytest.mark.usefixtures("hub")
def test_a_registry_that_names_another_sum_is_believed() -> None:
    """A file that is not the one that was checked is not fetched."""
    assert fetched(Source(repo=REPO, file=FILE, sha256=sha256(DATA))).read_bytes() == DATA
    with pytest.raises(DownloadError, match="not the file that the registry names"):
        fetched(Source(repo=REPO, file=FILE, sha256="0" * 64))


class Refusal(NamedTuple):
    status: int
    headers: dict[str, str]
    kind: type[DSparkError]
    says: str


REFUSALS = {
    "401": Refusal(401, {"X-Error-Code": "GatedRepo"}, DownloadError, "set HF_TOKEN or run `hf auth login`"),
    "401, nobody knows": Refusal(401, {}, DownloadError, r"refuses maker/Tiny-GGUF \(401\)"),
    "403": Refusal(403, {}, DownloadError, r"refuses maker/Tiny-GGUF \(403\)"),
    "404": Refusal(404, {"X-Error-Code": "RepoNotFound"}, ModelNotFoundError, "the hub has no maker/Tiny-GGUF"),
    "429": Refusal(429, {}, DownloadError, "too many requests"),
    "503": Refusal(503, {}, DownloadError, "out of order"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_a_refusal_is_one_line_that_says_what_to_do(hub: Hub, name: str) -> None:
    """Whether the listing is refused, or the file after it."""
    refusal = REFUSALS[name]
    plan = download.plan(SOURCE)
    hub.status, hub.headers = refusal.status, refusal.headers
    for attempt in (lambda: download.plan(SOURCE), lambda: download.fetch(plan)):
        with pytest.raises(refusal.kind, match=refusal.says) as raised:
            attempt()
        assert "\n" not in str(raised.value)
    assert download.present(SOURCE) is None


def test_the_token_opens_what_is_gated(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """HF_TOKEN goes along with every request."""
    hub.token = "hf_secret"
    with pytest.raises(DownloadError, match="gated"):
        fetched()
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert fetched().read_bytes() == DATA


@pytest.mark.parametrize(
    ("source", "says"),
    [
        (Source(repo="maker/nothing"), "the hub has no maker/nothing"),
        (Source(repo=REPO, file="other.gguf"), "has no file other.gguf"),
    ],
)
@pytest.mark.usefixtures("hub")
def test_what_the_hub_does_not_have_is_said(source: Source, says: str) -> None:
    """A repository, or a file in it."""
    with pytest.raises(ModelNotFoundError, match=says):
        download.plan(source)


def test_offline_what_is_here_runs_and_what_is_not_is_said(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """HF_HUB_OFFLINE: no request is made in either case."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(DownloadError, match="HF_HUB_OFFLINE"):
        find(REPO)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    path = find(REPO).target
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    hub.asked.clear()
    assert find(REPO).target == path
    assert hub.asked == []


@pytest.mark.usefixtures("hub")
def test_a_hub_that_cannot_be_reached_matters_only_for_what_is_not_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a train without network, yesterday's model still runs."""
    path = find(REPO).target
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert find(f"{REPO}:Q4_K_M").target == path
    with pytest.raises(DownloadError, match="cannot be fetched"):
        find("maker/Other-GGUF")


def test_too_little_disk_is_told_before_a_byte_is_fetched(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """With both numbers, and what can be done."""
    usage = shutil.disk_usage(".")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1_000_000))
    with pytest.raises(DownloadError, match=r"needs 3 MB more and .* has 1 MB free; make room"):
        fetched()
    assert hub.sent == 0


FULL = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))"


def test_a_disk_that_fills_up_is_one_line_and_what_arrived_is_kept(
    hub: Hub, pulling: Callable[..., subprocess.Popen[str]]
) -> None:
    """A child that may write a megabyte stands for the disk; with room again, the rest is fetched."""
    process = pulling(extra=FULL)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 2
    assert "the disk is full" in err.splitlines()[-1]
    assert "Traceback" not in err
    assert fetched().read_bytes() == DATA
    assert hub.ranges[-1]  # it went on, and did not begin anew


def test_two_processes_fetch_a_file_once(hub: Hub, pulling: Callable[..., subprocess.Popen[str]]) -> None:
    """The second waits for the first, and both say where it is."""
    hub.pause = 0.03
    processes = [pulling(), pulling()]
    said = [p.communicate(timeout=PATIENCE) for p in processes]
    assert [p.returncode for p in processes] == [0, 0], said
    assert said[0][0] == said[1][0] == f"{download.present(SOURCE)}\n"
    assert hub.sent == len(DATA)


@pytest.mark.parametrize("at", [0.0, 0.9])
def test_a_process_killed_in_the_middle_leaves_the_cache_usable(
    hub: Hub, pulling: Callable[..., subprocess.Popen[str]], at: float
) -> None:
    """Nothing of the half file is taken for the model; the next pull fetches the rest, and that only."""
    hub.pause = 0.02
    process = pulling()
    until(lambda: bool(hub.ranges) and hub.sent >= at * len(DATA))
    process.kill()
    process.communicate(timeout=PATIENCE)
    hub.pause = 0
    assert download.present(SOURCE) is None
    assert fetched().read_bytes() == DATA
    assert leftovers() == []
    begun = int((hub.ranges[-1] or "bytes=0-").removeprefix("bytes=").removesuffix("-"))
    assert begun >= min(at, 0.5) * len(DATA) - 30 * PIECE * at  # less what was on its way


def until(true: Callable[[], bool]) -> None:
    end = monotonic() + PATIENCE
    while not true():
        assert monotonic() < end
        sleep(0.005)


def test_removing_frees_the_bytes(hub: Hub) -> None:
    """The blob goes with its last name; other files stay."""
    hub.repos[REPO]["tiny-Q8_0.gguf"] = DATA[::-1]
    fetched()
    download.fetch(download.plan(SOURCE, "Q8_0"))
    assert cache.remove(REPO, [FILE]) == len(DATA)
    assert download.present(SOURCE, "Q4_K_M") is None
    assert not cache.blob(REPO, sha256(DATA)).exists()
    other = download.present(SOURCE, "Q8_0")
    assert other
    assert other.read_bytes() == DATA[::-1]


def test_all_parts_of_a_split_model_are_fetched(hub: Hub) -> None:
    """The path is the first part's, with the others beside it; with one missing it is not here."""
    parts = {f"Q4_K_M/big-0000{i}-of-00003.gguf": DATA[i * PIECE : (i + 1) * PIECE] for i in (1, 2, 3)}
    hub.repos["maker/Big-GGUF"] = parts
    path = fetched(Source(repo="maker/Big-GGUF"))
    assert [(path.parents[1] / name).read_bytes() for name in parts] == list(parts.values())
    assert path.name == "big-00001-of-00003.gguf"
    cache.remove("maker/Big-GGUF", ["Q4_K_M/big-00002-of-00003.gguf"])
    assert download.present(Source(repo="maker/Big-GGUF")) is None
    assert fetched(Source(repo="maker/Big-GGUF")) == path
