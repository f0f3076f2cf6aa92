"""Peers are built from the source and with the flags of our own wheel."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))  # scripts, not a package

import peer_build
from peer_build import recipe

PROJECT = """
cmake_minimum_required(VERSION 3.14)
project(stand_in C)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
add_executable(llama-server main.c)
add_executable(llama-speculative-simple main.c)
"""


def _sdist(*arguments: str) -> None:
    """Stands in for `pip download`: an sdist with a file inside llama.cpp and one beside it."""
    folder = Path(arguments[arguments.index("-d") + 1])
    with tarfile.open(folder / "llama_cpp_python-1.tar.gz", "w:gz") as sdist:
        for name in ("llama-1/setup.py", "llama-1/vendor/llama.cpp/CMakeLists.txt"):
            sdist.addfile(tarfile.TarInfo(name), io.BytesIO())


def test_only_the_vendored_llama_cpp_is_unpacked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The source holds llama.cpp itself, and nothing else of the sdist stays."""
    monkeypatch.setattr(recipe, "pip", _sdist)
    peer_build._fetch("llama-cpp-python==1", tmp_path / "home" / "source")
    found = sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*"))
    assert found == ["home", "home/source", "home/source/CMakeLists.txt"]


def test_cmake_is_asked_for_by_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine without cmake is told so in one line."""
    monkeypatch.setattr(peer_build.shutil, "which", lambda *_args, **_kw: None)
    with pytest.raises(SystemExit, match="need cmake"):
        peer_build._build(tmp_path, tmp_path)


@pytest.mark.skipif(shutil.which("cmake") is None, reason="needs cmake")
def test_cmake_builds_both_programs(tmp_path: Path) -> None:
    """A project in the shape of llama.cpp ends up as two programs that are there and run."""
    source, build = tmp_path / "source", tmp_path / "build"
    source.mkdir()
    (source / "main.c").write_text("int main(void) { return 0; }")
    (source / "CMakeLists.txt").write_text(PROJECT)
    peer_build._build(source, build)
    for name in peer_build.TARGETS:
        assert subprocess.run([build / "bin" / name], check=False).returncode == 0


def test_a_build_reports_steps_and_failure(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """Progress is read from ninja's steps and from make's percentages; a failed build shows the end of its log."""
    seen: list[tuple[int, int]] = []
    monkeypatch.setattr(recipe, "progress", lambda done, of, _shown: seen.append((done, of)) or 0)
    talk = "print('[3/9] Building C'); print('[ 42%] Building CXX'); print('no such header')"
    assert recipe.watched([sys.executable, "-c", talk])
    assert seen == [(3, 9), (42, 100)]
    assert "no such header" not in capfd.readouterr().err
    assert not recipe.watched([sys.executable, "-c", f"{talk}; raise SystemExit(1)"])
    assert "no such header" in capfd.readouterr().err


def test_builds_use_the_wheels_flags() -> None:
    """Every flag of ours is in the environment of a build."""
    check = "import os; raise SystemExit(os.environ['CXXFLAGS'] != {!r})".format(recipe.flags()["CXXFLAGS"])
    assert recipe.watched([sys.executable, "-c", check])
