"""llama.cpp's own programs, from the source that our wheel was built from and with its compiler flags.

`benchmarks/build/llama.cpp-KEY/`, where KEY is the wheel's in the cache of recipes/setup.py, holds source and build; an
interrupted build goes on where it stopped. It needs cmake and a C++ compiler, and the package index once.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "recipes"))  # scripts, not a package

import setup as recipe

BUILD = Path(__file__).parent / "build"
TARGETS = ("llama-server", "llama-speculative-simple")
OPTIONS = (  # what the wheel is built with, and of the programs no more than is run: no web page, no TLS
    "CMAKE_BUILD_TYPE=Release",
    "BUILD_SHARED_LIBS=ON",
    "LLAMA_BUILD_TESTS=OFF",
    "LLAMA_BUILD_APP=OFF",
    "LLAMA_BUILD_UI=OFF",
    "LLAMA_USE_PREBUILT_UI=OFF",
    "LLAMA_OPENSSL=OFF",
)


@dataclass(frozen=True, slots=True)
class Programs:
    """Where they are, and what they were built from and with, for a report."""

    server: Path
    simple: Path
    about: str


def programs(folder: Path = BUILD) -> Programs:
    """Build what is missing. Exits with one line when that fails."""
    requirement = recipe.llama_requirement()
    home = folder / f"llama.cpp-{recipe.key(requirement)}"
    if not (home / "source").is_dir():
        _fetch(requirement, home / "source")
    server, simple = made = [home / "build" / "bin" / name for name in TARGETS]
    if not all(program.is_file() for program in made):
        _build(home / "source", home / "build")
    flags = recipe.flags()["CXXFLAGS"] or "no flags of ours"
    return Programs(server, simple, f"llama.cpp of {requirement}, {recipe.compiler_version()}, native, {flags}")


def _fetch(requirement: str, source: Path) -> None:
    """Download the sdist and unpack the llama.cpp in it."""
    recipe.say("fetching the source of llama.cpp")
    source.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=source.parent) as room:
        # --no-binary :all: would build the build tools too
        recipe.pip("download", "--no-deps", "--no-binary", "llama-cpp-python", "-d", room, requirement)
        with tarfile.open(next(Path(room).glob("*.tar.gz"))) as sdist:
            inside = [m for m in sdist.getmembers() if "/vendor/llama.cpp/" in m.name]
            sdist.extractall(room, inside, filter="data")
        next(Path(room).glob("*/vendor/llama.cpp")).rename(source)


def _build(source: Path, build: Path) -> None:
    where = os.pathsep.join((str(recipe.BIN), os.environ.get("PATH", "")))
    cmake, ninja = (shutil.which(name, path=where) for name in ("cmake", "ninja"))
    if cmake is None:
        sys.exit("error: llama.cpp's programs need cmake; install it, or `.venv/bin/pip install cmake ninja`")
    if not (build / "CMakeCache.txt").is_file():
        own = shlex.split(os.environ.get("CMAKE_ARGS", ""))
        generator = ("-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={ninja}") if ninja else ()
        command = [cmake, "-S", source, "-B", build, *generator, *(f"-D{option}" for option in OPTIONS), *own]
        if not recipe.watched(command):
            shutil.rmtree(build, ignore_errors=True)
            sys.exit("error: cmake does not take llama.cpp; the end of its log is above")
    recipe.say("building llama-server and llama-speculative-simple, once (minutes)")
    if not recipe.watched([cmake, "--build", build, "--config", "Release", "--target", *TARGETS]):
        sys.exit("error: llama.cpp's programs did not build; the end of the log is above")


if __name__ == "__main__":
    made = programs()
    print(made.server, made.simple, made.about, sep="\n")
