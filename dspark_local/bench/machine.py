"""What a figure was measured on."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from pathlib import Path

import psutil

from dspark_local.backend.library import VERSION, system_info
from dspark_local.loading import default_threads


def describe() -> list[str]:
    """Lines on processor, build and commit."""
    return [
        f"machine: {_cpu()}, {_cores()}, {psutil.virtual_memory().total >> 30} GiB; load {_load()} before the start",
        f"build: llama-cpp-python {VERSION}; {_features()}; {_spinning()}",
        f"Python {platform.python_version()} on {platform.system()}; commit {commit()}",
    ]


def commit() -> str:
    """The commit that is checked out, `-dirty` if files differ from it."""
    git = shutil.which("git")
    if not git:
        return "unknown (no git)"
    command = [git, "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=10"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - fixed words
    return done.stdout.strip() or "unknown"


def _spinning() -> str:
    return ", ".join(f"{name}={os.environ.get(name, 'unset')}" for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"))


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _cores() -> str:
    return f"{psutil.cpu_count(logical=False)} cores ({psutil.cpu_count()} logical), {default_threads()} threads"


def _features() -> str:
    """What the build uses, of all that llama.cpp names: "CPU : AVX2 = 1 | FMA = 1 | …"."""
    pairs = (part.rpartition(":")[2].partition("=") for part in system_info().split("|"))
    return " ".join(name.strip() for name, _, value in pairs if value.strip() == "1")


def _load() -> str:
    return f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"
