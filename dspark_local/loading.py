"""From a model's name or path to a running pair: find, check, try out, fit, load."""

from __future__ import annotations

import logging
import os
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

import psutil

from dspark_local.backend.probe_cache import probe_once
from dspark_local.drafters.dspark import DSpark
from dspark_local.drafters.none import NoDrafter
from dspark_local.engine import Engine
from dspark_local.errors import ModelFormatError, UsageError
from dspark_local.formats.inspection import inspect_files
from dspark_local.models import fit
from dspark_local.models.locations import find
from dspark_local.runtime import Runtime
from dspark_local.scheduling.policy import Fixed

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from dspark_local.drafters.base import Drafter
    from dspark_local.formats.inspection import Inspection

FIXED_WIDTH = 4  # what `--fixed-width` means: one of the cheap widths on every kernel that was measured
MAX_SLOTS = 64
CRASHING_BUILD = (
    "this build of llama.cpp crashes on this CPU with its fastest 4-bit kernels (AMX and an old compiler), so they are "
    "off and decoding is slower; `make setup` in a checkout of dspark-local builds one that works"
)
_logger = logging.getLogger(__name__)


def load(
    model: str | Path,
    *,
    drafter: str | Path = "auto",
    gamma: int = 3,
    fixed_width: int | None = None,
    ctx_size: int | None = None,
    slots: int = 1,
    threads: int | None = None,
    gpu_layers: int = -1,
    progress: Callable[[str, float], None] | None = None,
) -> Runtime:
    """Load a target and its drafter, ready to answer.

    `model` is a registry name or a GGUF path; `drafter` is auto, none or a path; `gamma` tokens are drafted each
    round; `fixed_width` W makes the text depend on seed and target alone; `slots` conversations run at once;
    `progress` hears (stage, share from 0 to 1). Raises UsageError, ModelError, OutOfMemoryError.
    """
    _check(gamma=gamma, fixed_width=fixed_width, slots=slots, threads=threads)
    report = progress or (lambda _stage, _share: None)
    pair = find(model, drafter)
    report("checking", 0.0)
    files = inspect_files(pair.target, pair.drafter)
    if files.draft and files.spec and not files.spec.has_markov:
        raise ModelFormatError(f"{files.draft.path.name} is a plain DFlash drafter; only DSpark ones are supported yet")
    gamma = min(gamma, files.spec.n_drafts) if files.spec else 0
    n_ctx = fit.context(files.target, ctx_size)
    fit.check([f for f in (files.target, files.draft) if f], n_ctx=n_ctx, n_slots=slots)
    n_threads = threads or default_threads()
    extra_buffers = _try_out(files, gpu_layers)

    # llama.cpp is loaded here and no sooner, so that a wrong name or file is told at once
    from dspark_local.backend.heads import MarkovHead  # noqa: PLC0415
    from dspark_local.backend.llama import LlamaDraft, LlamaTarget, Shape  # noqa: PLC0415
    from dspark_local.backend.model import Model  # noqa: PLC0415

    shape = Shape(
        n_ctx=n_ctx,
        n_slots=slots,
        width=fixed_width or 1 + gamma,
        threads=n_threads,
        unified=fixed_width is None,
    )

    def weights(path: Path, stage: str) -> Model:
        return Model(path, gpu_layers=gpu_layers, extra_buffers=extra_buffers, progress=partial(report, stage))

    with ExitStack() as undo:
        target_model = weights(files.target.path, "loading the target")
        undo.callback(target_model.close)
        target = LlamaTarget(target_model, shape, layers=files.spec.target_layers if files.spec else ())
        undo.callback(target.close)
        proposes: Drafter = NoDrafter()
        if files.draft and files.spec:
            draft_model = weights(files.draft.path, "loading the drafter")
            undo.callback(draft_model.close)
            proposes = DSpark(LlamaDraft(draft_model, target, files.spec, shape), MarkovHead(files.draft))
        undo.pop_all()
    engine = Engine(target, proposes, Fixed(gamma), is_end=target_model.is_end, fixed_width=fixed_width)
    return Runtime(engine, target_model, model=pair.name)


def default_threads() -> int:
    """Physical cores that this process may use: decoding gains nothing from their twins."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(allowed, psutil.cpu_count(logical=False) or allowed))


def _check(*, gamma: int, fixed_width: int | None, slots: int, threads: int | None) -> None:
    if gamma < 1:
        raise UsageError(f"draft-max must be 1 or more, not {gamma}; use --no-draft for plain decoding")
    if fixed_width is not None and not 1 <= fixed_width <= 16:  # noqa: PLR2004 - no block is longer
        raise UsageError(f"a fixed width lies between 1 and 16, not {fixed_width}")
    if not 1 <= slots <= MAX_SLOTS:
        raise UsageError(f"slots lie between 1 and {MAX_SLOTS}, not {slots}")
    if threads is not None and threads < 1:
        raise UsageError(f"threads must be 1 or more, not {threads}")


def _try_out(files: Inspection, gpu_layers: int) -> bool:
    """Run the files once in a child process; whether repacked weights work on this CPU.

    Raises ModelFormatError when they fail either way.
    """
    draft = files.draft.path if files.draft else None
    verdict = probe_once(files.target.path, draft, gpu_layers=gpu_layers)
    if verdict.died:
        spared = probe_once(files.target.path, draft, use_extra_bufts=False, gpu_layers=gpu_layers)
        if spared.ok:
            _logger.warning(CRASHING_BUILD)
            return False
    if not verdict.ok:
        raise ModelFormatError(f"llama.cpp cannot run {files.target.path.name}: {verdict.detail}")
    return True
