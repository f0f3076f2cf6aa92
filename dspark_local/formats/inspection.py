"""All that can be known of a target and its drafter without llama.cpp."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dspark_local.formats.gguf import GGUF
from dspark_local.formats.model import Soundness, check_model
from dspark_local.formats.pair import check_pair, check_target

if TYPE_CHECKING:
    import os

    from dspark_local.formats.dflash import DraftSpec


@dataclass(frozen=True, slots=True)
class Inspection:
    """Two files that passed every check, or one; UNKNOWN if either of them leads beyond the rules."""

    target: GGUF
    draft: GGUF | None
    spec: DraftSpec | None
    soundness: Soundness


def inspect_files(target: str | os.PathLike[str], draft: str | os.PathLike[str] | None = None) -> Inspection:
    """Open and check a target, and the drafter for it.

    Raises ModelNotFoundError, ModelFormatError or PairError, each one line that says what is wrong.
    """
    target_file = GGUF.open(target)
    check_target(target_file)
    verdicts = {check_model(target_file)}
    draft_file = spec = None
    if draft is not None:
        draft_file = GGUF.open(draft)
        spec = check_pair(target_file, draft_file)
        verdicts.add(check_model(draft_file))
    soundness = Soundness.UNKNOWN if Soundness.UNKNOWN in verdicts else Soundness.SOUND
    return Inspection(target_file, draft_file, spec, soundness)
