"""One file a kind of model: its tables, its keys, and what it refuses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dspark_local.convert.families.deepseek import DEEPSEEK4_DRAFT
from dspark_local.convert.families.dspark import GEMMA4_DRAFT, QWEN3_DRAFT
from dspark_local.convert.families.gemma import GEMMA2, GEMMA3
from dspark_local.convert.families.gemma4 import GEMMA4
from dspark_local.convert.families.llama import LLAMA
from dspark_local.convert.families.qwen import QWEN2, QWEN3
from dspark_local.errors import ConvertError

if TYPE_CHECKING:
    from dspark_local.convert.checkpoint import Checkpoint
    from dspark_local.convert.family import Family

TARGETS = (LLAMA, QWEN2, QWEN3, GEMMA2, GEMMA3, GEMMA4)
DRAFTERS = (QWEN3_DRAFT, GEMMA4_DRAFT, DEEPSEEK4_DRAFT)
_NORMED = "an Eagle3 drafter of DeepSpec's; llama.cpp's graph for Eagle3 has no place for its norms of queries and keys"
# What is told of drafters that are not in a table, by the first part of their name that is here.
_OTHERS = {
    "Qwen3Eagle3": _NORMED,
    "Gemma4Eagle3": _NORMED,
    "Eagle3": "an Eagle3 drafter, which dspark-local does not run; llama.cpp's own converter and server do",
    "DFlash2": "a DFlash2 drafter, whose selector dspark-local does not run; llama.cpp's own converter and server do",
}


def target_family(checkpoint: Checkpoint) -> Family:
    """The family of a target. Raises ConvertError for one that is not converted."""
    if family := _among(TARGETS, found := _architecture(checkpoint)):
        return family
    raise ConvertError(f"{checkpoint.folder} holds {found}; targets that can be converted are {_known(TARGETS)}")


def draft_family(checkpoint: Checkpoint) -> Family:
    """The family of a drafter. Raises ConvertError for one that is not converted."""
    if family := _among(DRAFTERS, found := _architecture(checkpoint)):
        return family
    for part, what in _OTHERS.items():
        if part in found:
            raise ConvertError(f"{checkpoint.folder} is {what}")
    raise ConvertError(f"{checkpoint.folder} holds {found}; drafters that can be converted are {_known(DRAFTERS)}")


def _architecture(checkpoint: Checkpoint) -> str:
    named = checkpoint.config.get("architectures")
    return str(named[0]) if isinstance(named, list) and named else "nothing"


def _among(families: tuple[Family, ...], architecture: str) -> Family | None:
    return next((family for family in families if architecture in family.architectures), None)


def _known(families: tuple[Family, ...]) -> str:
    return ", ".join(name for family in families for name in family.architectures)
