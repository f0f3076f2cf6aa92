"""From prompts and a target to a drafter beside it: ask, read, train, convert, calibrate, register."""

from __future__ import annotations

import importlib.util
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from dspark_local.convert import convert_draft
from dspark_local.errors import UsageError
from dspark_local.formats.pair import check_target
from dspark_local.loading import load
from dspark_local.models import registry
from dspark_local.models.locations import find
from dspark_local.training import prompts
from dspark_local.training.answers import Answers, check, regenerate
from dspark_local.training.design import design
from dspark_local.training.export import calibrate, gguf_path, gguf_type
from dspark_local.training.lesson import Lesson
from dspark_local.training.start import Start, read_start
from dspark_local.training.target import TargetFile

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dspark_local.training.plan import Plan
    from dspark_local.training.prompts import Conversation
    from dspark_local.training.text import Text

_CONTEXT = 2048  # tokens of prompt and answer, unless the target was trained on less


def train(
    model: str,
    files: Sequence[Path],
    folder: Path,
    plan: Plan,
    *,
    tell: Callable[[str], None],
    progress: Callable[[str, float], None],
) -> Path:
    """Train a drafter for `model` on what it answers to the prompts of `files`; everything on the way is in `folder`.

    Returns the drafter's file. Called again with the same arguments after a kill, it goes on.
    Raises UsageError, ModelError, TrainingError.
    """
    if importlib.util.find_spec("torch") is None:
        raise UsageError("training needs torch: pip install 'dspark-local[train]'")
    conversations = prompts.read_all(files)[: plan.limit]
    check(conversations)
    path = find(model, "none", progress).target
    target = TargetFile.open(path)
    check_target(target.gguf)
    wanted = design(
        target.gguf,
        depth=plan.depth,
        layers=plan.layers,
        block_size=plan.block_size,
        rank=plan.rank,
        mask=plan.mask,
    )
    start = Start(wanted)
    if plan.finetune:
        start = read_start(plan.finetune, wanted)
        wanted = replace(start.design, num_target_layers=wanted.num_target_layers)
    kind = gguf_type(wanted, plan.type)
    written = gguf_path(model, path, folder, plan.file, kind)
    if plan.finetune and written.resolve() == plan.finetune.resolve():
        raise UsageError(f"{written} is what the training starts from; name another file to write: --file")
    if plan.name:
        registry.registered(plan.name, path, written)  # what is taken is told now, not in the end
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{folder} cannot be made: {error.strerror or error}") from None
    asked = {"target": target.identity(), "prompts": prompts.digest(conversations), **asdict(plan.asking)}
    texts = _answered(str(path), conversations, Answers(folder / "answers.jsonl", asked), plan, progress)
    lesson = Lesson.of(texts)
    tell(lesson.summary)
    identity = asked | {
        "design": asdict(wanted) | {"target_layer_ids": list(wanted.target_layer_ids)},
        "schedule": asdict(plan.schedule),
        "kept": plan.kept,
        "finetune": str(plan.finetune) if plan.finetune else None,
    }
    from dspark_local.training.fit import fit  # noqa: PLC0415 - loads torch; a wrong file was told at once

    fit(target, lesson, Start(wanted, start.weights), folder, plan, identity=identity, tell=tell, progress=progress)
    questions = [conversations[i] for i in lesson.judged]
    convert_draft(
        folder / "draft",
        path,
        written,
        type=kind,
        progress=lambda done, of: progress(f"writing {written.name}", done / max(1, of)),
    )
    calibrate(path, written, questions, plan, tell=tell, progress=progress)
    if plan.name:
        registry.add(plan.name, path, written, description=f"{path.stem} with a drafter trained on this machine")
    return written


def _answered(
    path: str, conversations: Sequence[Conversation], kept: Answers, plan: Plan, progress: Callable[[str, float], None]
) -> list[Text]:
    texts = kept.read()
    if len(texts) == len(conversations):
        return texts
    with load(
        path,
        drafter="none",
        policy="plain",
        fixed_width=1,
        ctx_size=_context(path),
        slots=min(plan.slots, len(conversations) - len(texts)),
        threads=plan.threads,
        gpu_layers=plan.gpu_layers,
        progress=progress,
    ) as runtime:
        return regenerate(runtime, conversations, kept, plan.asking, progress=progress)


def _context(path: str) -> int:
    gguf = TargetFile.open(Path(path)).gguf
    trained = gguf.meta(f"{gguf.arch}.context_length")
    return min(_CONTEXT, trained) if isinstance(trained, int) and trained > 0 else _CONTEXT
