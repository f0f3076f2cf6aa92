"""What of a training run needs torch and llama.cpp: the target reads, the drafter learns."""

from __future__ import annotations

import os
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

import torch

from dspark_local.backend.model import Model
from dspark_local.backend.probe_cache import probe_once
from dspark_local.backend.reader import Reader
from dspark_local.errors import UsageError
from dspark_local.loading import default_threads
from dspark_local.training.heads import TorchHeads
from dspark_local.training.loop import Run
from dspark_local.training.network import Drafter
from dspark_local.training.precision import quicker
from dspark_local.training.states import StateCache, check_head

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from dspark_local.training.design import Design
    from dspark_local.training.lesson import Lesson
    from dspark_local.training.plan import Plan
    from dspark_local.training.start import Start
    from dspark_local.training.target import TargetFile

_WORKED = 64  # tokens on which the head is tried
# oneDNN, torch's bfloat16 on the CPU, makes kernels for each shape and keeps a thousand of them, in two caches:
# batches are of ever new shapes, and that is gigabytes. A step needs some dozens. Read when the first kernel is made.
_KERNELS = {"LRU_CACHE_CAPACITY": "32", "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "64"}


def fit(
    target: TargetFile,
    lesson: Lesson,
    start: Start,
    folder: Path,
    plan: Plan,
    *,
    identity: dict[str, Any],
    tell: Callable[[str], None],
    progress: Callable[[str, float], None],
) -> None:
    """Train the drafter of `start`; the best is left in `folder/draft`. Raises DSparkError."""
    prepare(plan)
    drafter = Drafter(start.design)
    if start.weights:
        drafter.load_state_dict({name: torch.from_numpy(values.copy()) for name, values in start.weights.items()})
    drafter.to(plan.device)
    with states(target, lesson, start.design, folder, plan) as cache:
        run = Run(drafter, heads(target, plan), lesson, cache, plan.schedule, folder, identity=identity, tell=tell)
        run.fit(progress)


def prepare(plan: Plan) -> None:
    """Set torch's threads, seed and caches. Raises UsageError for a device that is not there."""
    if plan.device.startswith("cuda") and not torch.cuda.is_available():
        raise UsageError("torch finds no CUDA device; leave --device out, or install torch for CUDA")
    for name, most in _KERNELS.items():
        os.environ.setdefault(name, most)
    torch.set_num_threads(plan.threads or default_threads())
    torch.manual_seed(plan.schedule.seed)


def heads(target: TargetFile, plan: Plan) -> TorchHeads:
    """The target's ends, where and how precisely the drafter is trained."""
    dtype = quicker(plan.device) if plan.kept == "bf16" else torch.float32
    return TorchHeads(target, device=plan.device, dtype=dtype)


@contextmanager
def states(target: TargetFile, lesson: Lesson, design: Design, folder: Path, plan: Plan) -> Iterator[StateCache]:
    """What the target, loaded to read, makes of the texts; nothing is left of it. Raises TrainingError, ModelError."""
    path = target.gguf.path
    spared = probe_once(path, None, gpu_layers=plan.gpu_layers).ok
    threads = plan.threads or default_threads()
    with (
        closing(Model(path, gpu_layers=plan.gpu_layers, extra_buffers=spared)) as model,
        closing(Reader(model, layers=design.taps, n_ctx=lesson.longest, threads=threads)) as reader,
    ):
        check_head(reader, target.logits, lesson.texts[lesson.judged[0]].tokens[:_WORKED])
        cache = StateCache(
            folder / "states",
            lesson.texts,
            reader,
            taps=len(design.taps),
            width=design.shape.hidden_size,
            cap=plan.cache,
            kept=plan.kept,
        )
        yield cache
        cache.close()
