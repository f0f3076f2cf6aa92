"""What a run leaves behind: a GGUF beside the target, its calibration, and a name for the pair."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dspark_local.bench.prompts import Prompt
from dspark_local.bench.tuning import tune
from dspark_local.convert import convert_draft
from dspark_local.errors import UsageError
from dspark_local.loading import load
from dspark_local.models import registry

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dspark_local.training.prompts import Conversation
    from dspark_local.training.train import Plan

_CALIBRATED_ON, _TOKENS = 12, 96  # prompts, tokens of an answer


@dataclass(frozen=True, slots=True)
class Trained:
    """The drafter's file, and the name of the pair if it has one."""

    file: Path
    name: str | None


def export(
    model: str,
    target: Path,
    folder: Path,
    plan: Plan,
    questions: Sequence[Conversation],
    *,
    tell: Callable[[str], None],
    progress: Callable[[str, float], None],
) -> Trained:
    """Convert the best drafter of a run, calibrate the pair on held-out questions, register it."""
    path = gguf_path(model, target, folder, plan)
    convert_draft(
        folder / "draft", target, path, type=plan.type,
        progress=lambda done, of: progress(f"writing {path.name}", done / max(1, of)),
    )  # fmt: skip
    asked = [Prompt(prompt=q[-1].content) for q in questions][:_CALIBRATED_ON]
    try:
        with load(
            target, drafter=path, threads=plan.threads, gpu_layers=plan.gpu_layers, progress=progress
        ) as runtime:
            if runtime.vocab.chat_template is None:
                asked = [prompt.model_copy(update={"raw": True}) for prompt in asked]
            tune(runtime, asked, max_tokens=_TOKENS, progress=progress)
    except UsageError as error:  # too few questions, or answers that end at once: the pair runs all the same
        tell(f"not calibrated: {error}")
    if plan.name:
        registry.add(plan.name, target, path, description=f"{target.stem} with a drafter trained here")
    return Trained(path, plan.name)


def gguf_path(model: str, target: Path, folder: Path, plan: Plan) -> Path:
    """Beside a target that was given by its path; else, where that is the hub's cache or ours, in the run's folder."""
    beside = target.parent if Path(model).is_file() else folder
    path = plan.file or beside / f"dspark-{target.stem}-{plan.type}.gguf"
    if plan.finetune and path.resolve() == plan.finetune.resolve():
        raise UsageError(f"{path} is what the training started from; name another file to write: --file")
    return path
