"""What a measurement or a verdict depends on: the build of llama.cpp, the processor, the files."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import importlib.util
import json
import platform
from pathlib import Path
from typing import TYPE_CHECKING

from dspark_local.errors import ModelNotFoundError

if TYPE_CHECKING:
    from collections.abc import Iterable


def digest(*facts: object) -> str:
    """One key for facts that JSON can hold."""
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def files(paths: Iterable[Path]) -> list[tuple[str, int, int]]:
    """Path, size and time of each file. Raises ModelNotFoundError."""
    try:
        return [(str(f.resolve()), f.stat().st_size, f.stat().st_mtime_ns) for f in paths]
    except OSError as error:
        raise ModelNotFoundError(f"{error.filename}: no such file") from None


def machine() -> list[object]:
    """Build and processor, without loading llama.cpp."""
    return [_build(), _cpu()]


def _build() -> list[object]:
    """Version of llama-cpp-python, and when its libraries were built."""
    spec = importlib.util.find_spec("llama_cpp")
    folders = spec.submodule_search_locations if spec else None
    libraries = sorted(p for folder in folders or () for p in (Path(folder) / "lib").glob("*"))
    version = importlib.metadata.version("llama_cpp_python") if folders else ""
    return [version, [(p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in libraries]]


def _cpu() -> str:
    with contextlib.suppress(OSError):
        first = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").split("\n\n", 1)[0]
        names = ("model name", "flags", "Features", "CPU part")
        return "\n".join(line for line in first.splitlines() if line.startswith(names))
    return f"{platform.machine()} {platform.processor()}"
