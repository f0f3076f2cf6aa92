"""Where a trained drafter goes, in which type, and how far its confidence is to be trusted."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from dspark_local.bench.prompts import Prompt
from dspark_local.bench.tuning import tune
from dspark_local.errors import UsageError
from dspark_local.loading import load

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dspark_local.training.design import Design
    from dspark_local.training.plan import Plan
    from dspark_local.training.prompts import Conversation

_BLOCK = 32  # numbers that Q8_0 and Q4_0 encode together
_CALIBRATED_ON, _TOKENS = 12, 96  # prompts, tokens of an answer
_TYPES = ("F32", "F16", "BF16", "Q8_0", "Q4_0")


def gguf_type(design: Design, wanted: str | None) -> str:
    """Q8_0, or F16 where that does not go; what was wanted, if it does. Raises UsageError."""
    whole = all(n % _BLOCK == 0 for n in design.rows)
    if wanted is None:
        return "Q8_0" if whole else "F16"
    if wanted not in _TYPES:
        raise UsageError(f"--to is one of {', '.join(_TYPES)}, not {wanted}")
    if wanted.startswith("Q") and not whole:
        raise UsageError(f"this drafter has rows that do not divide into blocks of {_BLOCK}; give --to F16")
    return wanted


def gguf_path(model: str, target: Path, folder: Path, wanted: Path | None, kind: str) -> Path:
    """Beside a target that was given by its path; else, where that is the hub's cache or ours, in the run's folder."""
    beside = target.parent if Path(model).is_file() else folder
    return wanted or beside / f"dspark-{target.stem}-{kind}.gguf"


def calibrate(
    target: Path,
    drafter: Path,
    questions: Sequence[Conversation],
    plan: Plan,
    *,
    tell: Callable[[str], None],
    progress: Callable[[str, float], None],
) -> None:
    """Time the pair and fit its confidences on held-out questions, as `dspark-local tune` does."""
    asked = [Prompt(prompt=q[-1].content, before=q[:-1]) for q in questions][:_CALIBRATED_ON]
    try:
        with load(
            target, drafter=drafter, threads=plan.threads, gpu_layers=plan.gpu_layers, progress=progress
        ) as runtime:
            if runtime.vocab.chat_template is None:
                asked = [prompt.model_copy(update={"raw": True}) for prompt in asked]
            tune(runtime, asked, max_tokens=_TOKENS, progress=progress)
    except UsageError as error:  # too few questions, or answers that end at once: the pair runs all the same
        tell(f"not calibrated: {error}")
