"""What `doctor` looks at, one function a subject, each a few findings."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from dataclasses import dataclass
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

import platformdirs
import psutil

from dspark_local.backend.neighbours import SPINS
from dspark_local.backend.probe_cache import probe_once
from dspark_local.cli import wheels
from dspark_local.errors import DSparkError
from dspark_local.loading import CRASHING_BUILD, default_threads
from dspark_local.models.locations import Pair, find

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

PACKAGES = ("dspark-local", "llama-cpp-python", "numpy", "textual")
REINSTALL = "reinstall with `make setup`"
LEAST_MEMORY = 1 << 30
LEAST_DISK = 1 << 30
_GIB = 1 << 30


class Level(StrEnum):
    """How bad a finding is; `fail` means that nothing works before it is mended."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: a subject, what was found, and what to do if it is not well."""

    level: Level
    subject: str
    found: str
    remedy: str = ""


def versions() -> Iterator[Finding]:
    """Python and the packages that matter."""
    modern = sys.version_info >= (3, 11)
    level = Level.OK if modern else Level.FAIL
    yield Finding(level, "python", platform.python_version(), "" if modern else "install Python 3.11 or newer")
    for name in PACKAGES:
        try:
            yield Finding(Level.OK, name, version(name))
        except PackageNotFoundError:
            yield Finding(Level.FAIL, name, "not installed", REINSTALL)


def llama() -> Iterator[Finding]:
    """The llama.cpp build: that it loads, what it was built for, and that the pinned symbols are there."""
    try:
        from dspark_local.backend import library  # noqa: PLC0415 - that it may not load is the question
    except DSparkError as error:
        yield Finding(Level.FAIL, "llama.cpp", str(error))
        return
    yield Finding(Level.OK, "llama.cpp build", features(library.system_info()))
    yield _devices(gpu=bool(library.api.llama_supports_gpu_offload()))
    yield _spinning("OPENMP" in features(library.system_info()).split(), os.environ)
    try:
        from dspark_local.backend import symbols  # noqa: F401, PLC0415 - checked at import
    except DSparkError as error:
        yield Finding(Level.FAIL, "C++ symbols", str(error))
    else:
        yield Finding(Level.OK, "C++ symbols", "all found")


def _devices(*, gpu: bool) -> Finding:
    """What the build drives, and how to get one for a GPU that it does not."""
    if gpu:
        return Finding(Level.OK, "devices", "GPU and CPU")
    found = wheels.suggestion()
    if found is None:
        return Finding(Level.OK, "devices", "CPU (this build has no GPU backend, and no GPU is seen)")
    return Finding(Level.WARN, "devices", f"CPU; this build has no backend for the GPU ({found[0]})", found[1])


def features(system_info: str) -> str:
    """What is on in llama.cpp's `CPU : SSE3 = 1 | AVX = 0 | …`."""
    pairs = (part.rpartition(":")[2].split("=") for part in system_info.split("|") if "=" in part)
    return " ".join(name.strip() for name, value in pairs if value.strip() not in ("", "0")) or "no special features"


def _spinning(openmp: bool, environment: Mapping[str, str]) -> Finding:  # noqa: FBT001 - a private helper's fact
    if not openmp:
        return Finding(Level.OK, "threads", f"{default_threads()}, ggml's own pool")
    spins = environment.get("GOMP_SPINCOUNT", "default")
    policy = environment.get("OMP_WAIT_POLICY", "default")
    found = f"{default_threads()}, OpenMP, GOMP_SPINCOUNT={spins}, OMP_WAIT_POLICY={policy}"
    if spins.isdecimal() and int(spins) <= SPINS:
        return Finding(Level.OK, "threads", found)
    return Finding(Level.WARN, "threads", found, "other programs slow decoding down a lot; unset GOMP_SPINCOUNT")


def machine() -> Iterator[Finding]:
    """Processor and memory."""
    name, flags = _processor()
    cores = f"{psutil.cpu_count(logical=False) or '?'} cores, {psutil.cpu_count() or '?'} threads"
    amx = ", AMX" if any(flag.startswith("amx") for flag in flags) else ""
    yield Finding(Level.OK, "processor", f"{name}, {cores}{amx}")
    memory = psutil.virtual_memory()
    level = Level.OK if memory.available >= LEAST_MEMORY else Level.WARN
    found = f"{memory.available / _GIB:.1f} GiB free of {memory.total / _GIB:.1f} GiB"
    yield Finding(level, "memory", found, "" if level == Level.OK else "only the smallest models fit; close something")


def _processor() -> tuple[str, list[str]]:
    """Name and feature flags, as far as the system tells them."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor() or platform.machine(), []
    facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines) if value}
    return facts.get("model name", platform.machine()), facts.get("flags", facts.get("Features", "")).split()


def cache() -> Iterator[Finding]:
    """The folder for what is measured or built once."""
    folder = Path(platformdirs.user_cache_dir("dspark-local"))
    near = next(p for p in (folder, *folder.parents) if p.is_dir())
    if not os.access(near, os.W_OK):
        yield Finding(Level.WARN, "cache", f"{folder} is not writable", "every start then tries the build out anew")
        return
    free = shutil.disk_usage(near).free
    level = Level.OK if free >= LEAST_DISK else Level.WARN
    found = f"{folder}, {free / _GIB:.1f} GiB free"
    yield Finding(level, "cache", found, "" if level == Level.OK else "the disk is nearly full; make room")


def demo() -> Iterator[Finding]:
    """The demo pair: that it is there, and that a round of it runs in a child process."""
    try:
        pair = find("demo")
    except DSparkError as error:
        yield Finding(Level.FAIL, "demo pair", str(error))
        return
    size = sum(p.stat().st_size for p in (pair.target, pair.drafter) if p)
    yield Finding(Level.OK, "demo pair", f"{pair.target.name} and its drafter, {size / (1 << 20):.1f} MiB")
    try:
        yield _trial(pair)
    except DSparkError as error:
        yield Finding(Level.FAIL, "a round", str(error), REINSTALL)


def _trial(pair: Pair) -> Finding:
    verdict = probe_once(pair.target, pair.drafter)
    if verdict.ok:
        return Finding(Level.OK, "a round", "drafted and verified")
    if verdict.died and probe_once(pair.target, pair.drafter, use_extra_bufts=False).ok:
        return Finding(Level.WARN, "a round", "runs without repacked weights only", CRASHING_BUILD)
    return Finding(Level.FAIL, "a round", verdict.detail, REINSTALL)


CHECKS: tuple[Callable[[], Iterator[Finding]], ...] = (versions, llama, machine, cache, demo)
