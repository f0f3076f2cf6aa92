"""One file a kind of model: its tables, its keys, and what it refuses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dspark_local.convert.families.gemma import GEMMA2, GEMMA3
from dspark_local.convert.families.gemma4 import GEMMA4
from dspark_local.convert.families.llama import LLAMA
from dspark_local.convert.families.qwen import QWEN2, QWEN3
from dspark_local.errors import ConvertError

if TYPE_CHECKING:
    from dspark_local.convert.checkpoint import Checkpoint
    from dspark_local.convert.family import Family

TARGETS = (LLAMA, QWEN2, QWEN3, GEMMA2, GEMMA3, GEMMA4)


def target_family(checkpoint: Checkpoint) -> Family:
    """The family of a target. Raises ConvertError for one that is not converted."""
    named = checkpoint.config.get("architectures")
    found = named[0] if isinstance(named, list) and named else "nothing"
    for family in TARGETS:
        if found in family.architectures:
            return family
    known = ", ".join(name for family in TARGETS for name in family.architectures)
    raise ConvertError(f"{checkpoint.folder} holds {found!s}; targets that can be converted are {known}")
