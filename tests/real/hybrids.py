"""Pairs whose target keeps a state, as files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dspark_local.convert import convert_draft
from tests.convert import deepseek
from tests.formats import hybrids, tiny

if TYPE_CHECKING:
    from pathlib import Path


def pair(folder: Path, arch: str) -> tuple[Path, Path]:
    """A target, and a DSpark drafter for it; DeepSeek-V4's is its own kind, converted."""
    target = hybrids.TARGETS[arch]().write(folder / "T-F32.gguf")
    draft = folder / "dspark-T-F16.gguf"
    if arch != "deepseek4":
        return target, tiny.draft(kind=tiny.F16).write(draft)
    checkpoint = deepseek.Drafter(fp8=False).write(folder / "D")
    return target, convert_draft(checkpoint, target, draft, type="F16")
