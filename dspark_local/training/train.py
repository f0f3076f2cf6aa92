"""From prompts and a target to a drafter beside it: ask, read, train, convert, calibrate, register."""

from __future__ import annotations

import importlib.util
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dspark_local.backend.probe_cache import probe_once
from dspark_local.convert import convert_draft
from dspark_local.errors import TrainingError, UsageError
from dspark_local.formats.pair import check_target
from dspark_local.loading import default_threads, load
from dspark_local.models import registry
from dspark_local.models.locations import find
from dspark_local.training import prompts
from dspark_local.training.answers import Answers, Asking, check, is_held_out, regenerate
from dspark_local.training.design import design
from dspark_local.training.export import calibrate, gguf_path, gguf_type
from dspark_local.training.start import read_start
from dspark_local.training.states import StateCache, check_head
from dspark_local.training.target import TargetFile

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dspark_local.training.design import Design
    from dspark_local.training.prompts import Conversation
    from dspark_local.training.schedule import Schedule
    from dspark_local.training.start import Start
    from dspark_local.training.states import Kept
    from dspark_local.training.text import Text

GIB = 1 << 30
_CONTEXT = 2048  # tokens of prompt and answer, unless the target was trained on less
_WORKED = 64  # tokens on which the head is tried


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What the user chose; None of a drafter's shape: what its target's depth suggests.

    `kept` is the precision of states and network; `cache` the bytes that the states may take; `finetune` a drafter's
    GGUF or checkpoint to start from; `name` under which the pair is registered; `file` the GGUF to write, of `type`
    (Q8_0, or F16 where rows do not divide into blocks of 32).
    """

    schedule: Schedule
    asking: Asking = field(default_factory=Asking)
    slots: int = 16
    limit: int | None = None
    depth: int | None = None
    layers: tuple[int, ...] | None = None
    block_size: int = 7
    rank: int | None = None
    mask: int | None = None
    finetune: Path | None = None
    cache: int = 8 * GIB
    kept: Kept = "bf16"
    device: str = "cpu"
    threads: int | None = None
    gpu_layers: int = -1
    type: str | None = None
    name: str | None = None
    file: Path | None = None


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
    start = read_start(plan.finetune, wanted) if plan.finetune else None
    if start:
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
    learned, judged = _split(texts)
    tell(_summary(texts, learned, judged))
    identity = asked | {
        "design": asdict(wanted) | {"target_layer_ids": list(wanted.target_layer_ids)},
        "schedule": asdict(plan.schedule),
        "kept": plan.kept,
        "finetune": str(plan.finetune) if plan.finetune else None,
    }
    _fit(target, texts, learned, judged, folder, plan, wanted, start, identity, tell, progress)
    questions = [conversations[i] for i in judged]
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


def _split(texts: Sequence[Text]) -> tuple[list[int], list[int]]:
    """Texts to learn from, and to judge by. Raises TrainingError when either is empty."""
    sound = [i for i, text in enumerate(texts) if text.teaches]
    learned = [i for i in sound if not is_held_out(i)]
    judged = [i for i in sound if is_held_out(i)]
    if not learned or not judged:
        raise TrainingError(
            f"of {len(texts)} answers {len(learned)} are fit to learn from and {len(judged)} to judge by (the others "
            "are short, or repeat themselves); give more prompts, or --sampled 1"
        )
    return learned, judged


def _summary(texts: Sequence[Text], learned: Sequence[int], judged: Sequence[int]) -> str:
    tokens = sum(len(texts[i].answer) for i in learned)
    left_out = len(texts) - len(learned) - len(judged)
    return (
        f"{len(learned)} answers of {tokens} tokens to learn from, {len(judged)} to judge by; "
        f"{left_out} are short or repeat themselves, and are left out"
    )


def _fit(
    target: TargetFile,
    texts: Sequence[Text],
    learned: Sequence[int],
    judged: Sequence[int],
    folder: Path,
    plan: Plan,
    wanted: Design,
    start: Start | None,
    identity: dict[str, Any],
    tell: Callable[[str], None],
    progress: Callable[[str, float], None],
) -> None:
    # torch and llama.cpp are loaded here and no sooner, so that a wrong file is told at once
    import torch  # noqa: PLC0415

    from dspark_local.backend.model import Model  # noqa: PLC0415
    from dspark_local.backend.reader import Reader  # noqa: PLC0415
    from dspark_local.training.heads import TorchHeads  # noqa: PLC0415
    from dspark_local.training.loop import Lesson, Run  # noqa: PLC0415
    from dspark_local.training.network import Drafter  # noqa: PLC0415

    if plan.device.startswith("cuda") and not torch.cuda.is_available():
        raise UsageError("torch finds no CUDA device; leave --device out, or install torch for CUDA")
    threads = plan.threads or default_threads()
    torch.set_num_threads(threads)
    torch.manual_seed(plan.schedule.seed)
    dtype = torch.bfloat16 if plan.kept == "bf16" else torch.float32
    drafter = Drafter(wanted)
    if start:
        drafter.load_state_dict({name: torch.from_numpy(values.copy()) for name, values in start.weights.items()})
    drafter.to(plan.device)
    path = target.gguf.path
    spared = probe_once(path, None, gpu_layers=plan.gpu_layers).ok
    model = Model(path, gpu_layers=plan.gpu_layers, extra_buffers=spared)
    longest = max(len(texts[i]) for i in (*learned, *judged))
    try:
        reader = Reader(model, layers=wanted.taps, n_ctx=longest, threads=threads)
        try:
            check_head(reader, target.logits, texts[judged[0]].tokens[:_WORKED])
            cache = StateCache(
                folder / "states",
                texts,
                reader,
                taps=len(wanted.taps),
                width=wanted.shape.hidden_size,
                cap=plan.cache,
                kept=plan.kept,
            )
            heads = TorchHeads(target, device=plan.device, dtype=dtype)
            lesson = Lesson(texts, learned, judged, cache)
            Run(
                drafter, heads, lesson, plan.schedule, folder, dtype=dtype, identity=identity, tell=tell
            ).fit(progress)
            cache.close()
        finally:
            reader.close()
    finally:
        model.close()
