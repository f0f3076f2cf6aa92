"""Which llama.cpp suits this machine's GPU, and the command that installs it.

Names of the indexes are those in llama-cpp-python 0.3.36's own description; none of these wheels was run by us.
"""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
import sys
from importlib.metadata import requires
from pathlib import Path

INDEX = "https://abetlen.github.io/llama-cpp-python/whl"
CUDA = ((11, 8), (12, 1), (12, 2), (12, 3), (12, 4), (12, 5), (13, 0), (13, 2))  # each with a wheel
_NVIDIA_SMI = re.compile(r"CUDA(?: UMD)? Version: *(\d+)\.(\d+)")
_PATIENCE = 10.0  # seconds
_VENDORS = {"0x10de": "NVIDIA", "0x1002": "AMD", "0x8086": "Intel"}  # PCI


def suggestion() -> tuple[str, str] | None:
    """A GPU of this machine, and the command for it; None where none is seen."""
    if sys.platform == "darwin":
        return ("Apple", command("metal")) if platform.machine() == "arm64" else None
    if cuda := _cuda():
        return f"NVIDIA, CUDA {cuda[0]}.{cuda[1]}", command(wheel(cuda))
    vendors = _vendors()
    if "AMD" in vendors:
        return "AMD", command("rocm72" if sys.platform == "linux" and shutil.which("rocminfo") else "vulkan")
    return (vendors[0], command("vulkan")) if vendors else None


def wheel(cuda: tuple[int, int]) -> str:
    """The newest index that this driver's CUDA runs: its own major version, no newer minor; Vulkan if there is none."""
    fits = [known for known in CUDA if known[0] == cuda[0] and known <= cuda] or [k for k in CUDA if k <= cuda]
    return "cu{}{}".format(*max(fits)) if fits else "vulkan"


def command(index: str) -> str:
    """What installs the pinned version from an index, in place of the one that is there."""
    return f"pip install --force-reinstall --no-deps --only-binary :all: {pinned()} --extra-index-url {INDEX}/{index}"


def pinned() -> str:
    """The version that the package asks for."""
    found = (r for r in requires("dspark-local") or () if r.startswith("llama-cpp-python"))
    return next(found, "llama-cpp-python")


def _cuda() -> tuple[int, int] | None:
    """The newest CUDA that NVIDIA's driver runs, as its own tool says."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return None
    try:
        said = subprocess.run([tool], capture_output=True, text=True, timeout=_PATIENCE, check=False).stdout  # noqa: S603 - found on PATH
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = _NVIDIA_SMI.search(said)
    return (int(found[1]), int(found[2])) if found else None


def _vendors() -> list[str]:
    """Makers of the display controllers that Linux knows."""
    found = set()
    for path in Path("/sys/class/drm").glob("card*/device/vendor"):
        found.add(_VENDORS.get(path.read_text(encoding="ascii", errors="replace").strip(), ""))
    return sorted(found - {""})
