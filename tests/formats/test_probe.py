"""The child process that tries files: it answers, it dies in the program's place, and it comes back."""

from __future__ import annotations

import json
import os
import shutil
from typing import TYPE_CHECKING, Self

import numpy as np
import pytest

pytest.importorskip("llama_cpp")

from dspark_local.backend import identity, probe_cache
from dspark_local.backend.probe import Prober, Verdict, _Worker
from dspark_local.backend.probe_cache import probe_once
from dspark_local.errors import ModelNotFoundError
from tests.formats import tiny
from tests.formats.tiny import STR, Array, Tensor

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def prober() -> Iterator[Prober]:
    with Prober(threads=1, timeout=60) as child:
        yield child


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("probe")
    words = tiny.tokens()
    models = {
        "target": tiny.target(),
        "untied": tiny.target(untied=True, kind=tiny.Q4_0),
        "draft": tiny.draft(),
        "own": tiny.draft(own_heads=True),
        "d2t": tiny.draft(d2t=True, kind=tiny.F16),
        # llama.cpp asserts on the first, and refuses the second
        "deadly": tiny.target().with_keys(tokenizer__ggml__tokens=Array(STR, [*words[:-1], words[0]])),
        "refused": tiny.target().with_tensors({"output_norm.weight": None}),
        # and this one it loads, to die of it in the first decode
        "late": tiny.target().with_tensors({"output_norm.weight": Tensor(np.ones(64, np.float32), tiny.F16)}),
    }
    return {name: model.write(folder / f"{name}.gguf") for name, model in models.items()}


@pytest.mark.parametrize("draft", [None, "draft", "own", "d2t"])
@pytest.mark.parametrize("target", ["target", "untied"])
def test_sound_pairs_run(prober: Prober, files: dict[str, Path], target: str, draft: str | None) -> None:
    """What the rules call sound loads, prefills, injects, drafts and verifies, also without extra buffers."""
    for extra in (True, False):
        verdict = prober.check(files[target], files[draft] if draft else None, use_extra_bufts=extra)
        assert verdict == Verdict(ok=True)


@pytest.mark.parametrize("name", ["deadly", "late"])
def test_a_deadly_file_kills_the_child_only(prober: Prober, files: dict[str, Path], name: str) -> None:
    """The verdict names signal and assertion in one line without a path, and the next check works."""
    verdict = prober.check(files[name])
    assert (verdict.ok, verdict.died) == (False, True)
    assert verdict.detail.startswith("llama.cpp died of it (SIGABRT: ")
    assert "/" not in verdict.detail
    assert "\n" not in verdict.detail
    assert prober.check(files["target"]).ok


def test_a_refused_file_is_no_death(prober: Prober, files: dict[str, Path]) -> None:
    """What llama.cpp declines comes back as its own reason."""
    verdict = prober.check(files["refused"])
    assert (verdict.ok, verdict.died) == (False, False)
    assert "output_norm.weight" in verdict.detail


def test_silence_is_a_death(files: dict[str, Path]) -> None:
    """A child that does not answer in time is ended, and the verdict says so."""
    with Prober(threads=1, timeout=1e-6) as hurried:
        verdict = hurried.check(files["target"])
    assert (verdict.ok, verdict.died) == (False, True)
    assert "no answer" in verdict.detail


def test_closing_ends_the_child_and_may_be_repeated(files: dict[str, Path]) -> None:
    """After close there is no child; a new check starts another."""
    prober = Prober(threads=1)
    assert prober.check(files["target"]).ok
    assert prober._worker
    child = prober._worker._process
    prober.close()
    prober.close()
    assert child.returncode is not None
    assert prober.check(files["target"]).ok
    prober.close()


def test_a_child_that_is_gone_is_an_answer(files: dict[str, Path]) -> None:
    """One that ended between two jobs, too: a verdict, and another child for the next."""
    with Prober(threads=1) as prober:
        assert prober.check(files["target"]).ok
        assert prober._worker
        prober._worker._process.kill()
        prober._worker._process.wait()
        assert prober.check(files["target"]).died
        assert prober.check(files["target"]).ok


class Counting:
    """Stands in for Prober and counts what it is asked."""

    verdict = Verdict(ok=True)
    asked = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def check(self, *_files: Path | None, **_options: object) -> Verdict:
        Counting.asked += 1
        return Counting.verdict


@pytest.fixture
def counting(monkeypatch: pytest.MonkeyPatch) -> type[Counting]:
    Counting.asked, Counting.verdict = 0, Verdict(ok=True)
    monkeypatch.setattr(probe_cache, "Prober", Counting)
    return Counting


def test_a_verdict_is_remembered(counting: type[Counting], files: dict[str, Path], tmp_path: Path) -> None:
    """The same files under the same options are probed once; other files or options anew."""
    cache = tmp_path / "deep" / "probes.json"
    for _ in range(2):
        assert probe_once(files["target"], files["draft"], cache=cache).ok
    assert counting.asked == 1
    probe_once(files["target"], cache=cache)
    probe_once(files["target"], files["draft"], use_extra_bufts=False, cache=cache)
    assert counting.asked == 3
    assert [path.name for path in cache.parent.iterdir()] == ["probes.json"]


def test_a_file_or_build_that_changed_is_probed_anew(
    counting: type[Counting], files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Time stamps of the files, the build and the CPU are part of what is remembered."""
    cache, copy = tmp_path / "probes.json", shutil.copy(files["target"], tmp_path / "copy.gguf")
    probe_once(copy, cache=cache)
    os.utime(copy, ns=(1, 1))
    probe_once(copy, cache=cache)
    assert counting.asked == 2
    for fact in ("_build", "_cpu"):
        monkeypatch.setattr(identity, fact, lambda: "another")
        probe_once(copy, cache=cache)
    assert counting.asked == 4


@pytest.mark.parametrize("damage", ["", "{", "[1]", "null", '{"a": 1}', "\0\0"])
def test_a_damaged_cache_is_ignored(
    counting: type[Counting], files: dict[str, Path], tmp_path: Path, damage: str
) -> None:
    """Whatever stands in the cache, the probe runs and the cache is good again."""
    cache = tmp_path / "probes.json"
    cache.write_text(damage)
    for _ in range(2):
        assert probe_once(files["target"], cache=cache).ok
    assert counting.asked == 1
    assert len(json.loads(cache.read_text())) == 1


@pytest.mark.parametrize(
    ("verdict", "probes"),
    [
        (Verdict(ok=False, detail="died (SIGABRT)", died=True), 1),
        (Verdict(ok=False, detail="died (SIGKILL)", died=True), 2),
        (Verdict(ok=False, detail="refused"), 2),
    ],
)
def test_what_may_pass_is_not_remembered(
    counting: type[Counting], files: dict[str, Path], tmp_path: Path, verdict: Verdict, probes: int
) -> None:
    """A crash is remembered; a refusal or a kill from outside may have been for want of memory."""
    counting.verdict = verdict
    for _ in range(2):
        assert probe_once(files["target"], cache=tmp_path / "probes.json") == verdict
    assert counting.asked == probes


def test_a_cache_that_cannot_be_written_is_no_error(
    counting: type[Counting], files: dict[str, Path], tmp_path: Path
) -> None:
    """Without a place to write, the verdict still comes."""
    (tmp_path / "file").write_text("")
    assert probe_once(files["target"], cache=tmp_path / "file" / "probes.json").ok
    assert counting.asked == 1


def test_a_missing_file_is_said_before_the_probe(counting: type[Counting], tmp_path: Path) -> None:
    """ModelNotFoundError names it."""
    with pytest.raises(ModelNotFoundError, match=r"nowhere\.gguf: no such file"):
        probe_once(tmp_path / "nowhere.gguf", cache=tmp_path / "probes.json")
    assert counting.asked == 0


def test_a_death_on_windows_is_told_by_its_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """There are no signals there: a status of the system, which is known by its hexadecimal spelling."""
    worker = _Worker()
    try:
        with monkeypatch.context() as windows:
            windows.setattr(worker._process, "wait", lambda: 0xC0000005)
            assert worker.epitaph().startswith("llama.cpp died of it (exit code 0xc0000005")
    finally:
        worker.kill()
