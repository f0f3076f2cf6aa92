"""From a model's name or path to a running pair: find, check, try out, fit, load."""

from __future__ import annotations

import logging
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import platformdirs
import psutil

from dspark_local.backend import identity
from dspark_local.backend.base import Shape
from dspark_local.backend.neighbours import cores
from dspark_local.backend.probe_cache import appraise_once, probe_once
from dspark_local.drafters import lookup
from dspark_local.drafters import model as chain
from dspark_local.drafters.none import NoDrafter
from dspark_local.engine import Engine
from dspark_local.errors import ModelFormatError, PairError, UsageError
from dspark_local.formats.inspection import inspect_files
from dspark_local.formats.preset import read_preset
from dspark_local.formats.recurrent import cannot_verify, is_recurrent
from dspark_local.formats.translation import translation
from dspark_local.models import fit
from dspark_local.models.locations import Kind, Pair, find, kind_of
from dspark_local.runtime import Runtime
from dspark_local.scheduling.knowledge import Knowledge
from dspark_local.scheduling.measure import measure
from dspark_local.scheduling.policies import check_name, named, reckons
from dspark_local.scheduling.policy import Fixed

if TYPE_CHECKING:
    from collections.abc import Callable

    from dspark_local.backend.base import Target
    from dspark_local.backend.model import Model
    from dspark_local.drafters.base import Drafter
    from dspark_local.drafters.opening import Opened
    from dspark_local.formats.inspection import Inspection
    from dspark_local.formats.translation import Translation
    from dspark_local.scheduling.cost import CostTable
    from dspark_local.scheduling.policy import Policy
    from dspark_local.types import SamplingParams

FIXED_WIDTH = 4  # what `--fixed-width` means: one of the cheap widths on every kernel that was measured
MAX_SLOTS = 64
MOST_KEPT = 4 << 30  # bytes of snapshots, unless more are asked for
CANDIDATES = ("logits", "backend")  # where a DSpark drafter's likeliest tokens are looked for
SPINNING = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")  # how long OpenMP's threads wait for one another (backend.library)
CRASHING_BUILD = (
    "this build of llama.cpp crashes on this CPU with its fastest 4-bit kernels (AMX and an old compiler), so they are "
    "off and decoding is slower; `make setup` in a checkout of dspark-local builds one that works"
)
_logger = logging.getLogger(__name__)


def load(
    model: str | Path,
    *,
    drafter: str | Path = "auto",
    policy: str = "auto",
    draft_candidates: str = "logits",
    fixed_width: int | None = None,
    ctx_size: int | None = None,
    slots: int = 1,
    max_waiting: int | None = None,
    threads: int | None = None,
    gpu_layers: int = -1,
    keep_bytes: int | None = None,
    rpc: str | None = None,
    remeasure: bool = False,
    progress: Callable[[str, float], None] | None = None,
) -> Runtime:
    """Load a target and its drafter, ready to answer.

    `model` and `drafter` are what models.locations understands (a name, a hub id, a path); `policy` says how many
    tokens a round drafts and verifies: auto, plain, fixed:N, threshold:P or paper; `draft_candidates` "backend" has
    llama.cpp pick a DSpark drafter's likeliest tokens (docs/sampling.md); `fixed_width` W makes the text depend on
    seed and target alone; `slots` conversations run at once, and `max_waiting` more requests, or any number, wait for
    their turn; at most `threads`, if None as many as there are cores, less those that other programs keep busy;
    up to `keep_bytes` of memory keep what was said before in a slot that is taken again, 0 for nothing, by default an
    eighth of what is free and at most 4 GiB; `rpc` names rpc-servers (host:port, commas between) over whose memory
    `gpu_layers` of the target are spread, and nothing is fitted then; `progress` hears (stage, share from 0 to 1).

    The first time that a pair is loaded with a policy that reckons with costs, its decodes are timed for some seconds;
    `remeasure` times them again.
    Raises UsageError, ModelError, OutOfMemoryError.
    """
    _check(
        fixed_width=fixed_width, slots=slots, threads=threads, max_waiting=max_waiting, keep_bytes=keep_bytes
    )
    check_name(policy)
    _check_candidates(draft_candidates, rpc)
    report = progress or (lambda _stage, _share: None)
    pair = find(model, drafter, report)
    report("checking", 0.0)
    found = _verifiable(_looked_at(pair), fixed_width)
    kind, files, gamma = found.kind, found.files, found.gamma
    shape = _shape(found, ctx_size, slots, fixed_width, threads)
    choice = _fitted(files, found.small, shape, ctx_size, gpu_layers, rpc)
    shape = replace(shape, n_ctx=choice.n_ctx, kv=choice.kv)
    extra_buffers = _try_out(files, 0 if rpc else choice.layers.target)
    if found.small and extra_buffers:
        extra_buffers = _try_out(found.small, choice.layers.draft)
    candidates = draft_candidates == "backend" and _picks(found, choice.layers.target, extra_buffers)

    # llama.cpp is loaded here and no sooner, so that a wrong name or file is told at once
    from dspark_local.backend import rpc as backend_rpc  # noqa: PLC0415
    from dspark_local.backend.llama import LlamaTarget  # noqa: PLC0415
    from dspark_local.backend.model import Model  # noqa: PLC0415
    from dspark_local.drafters import opening  # noqa: PLC0415

    backend_rpc.use(rpc)

    def weights(path: Path, stage: str, layers: int) -> Model:
        return Model(path, gpu_layers=layers, extra_buffers=extra_buffers, progress=partial(report, stage))

    def runtime(target: Target, drafter: Drafter, policy: Policy, **options: Any) -> Runtime:  # noqa: ANN401 - Runtime's
        engine = Engine(
            target,
            drafter,
            policy,
            is_end=target_model.is_end,
            fixed_width=fixed_width,
            keep_bytes=_default_keep() if keep_bytes is None else keep_bytes,
        )
        return Runtime(
            engine,
            target_model,
            model=pair.name,
            identity=f"{whose} {drafter.name}",
            preset=_preset(pair, files),
            max_waiting=max_waiting,
            **options,
        )

    # of a state: what reads it must have these files, this build, and caches of this form
    whose = identity.digest(
        identity.files([path for path in (pair.target, pair.drafter) if path]),
        identity.machine(),
        (shape.unified or shape.n_slots, shape.kv),
    )

    def plain() -> Runtime:
        return runtime(_beside(target_model, shape), NoDrafter(), Fixed(0))

    with ExitStack() as undo:
        target_model = weights(files.target.path, "loading the target", choice.layers.target)
        undo.callback(target_model.close)
        target = LlamaTarget(target_model, shape, layers=files.spec.target_layers if files.spec else ())
        undo.callback(target.close)
        if kind is Kind.NONE:
            undo.pop_all()
            return runtime(target, NoDrafter(), Fixed(0), plain=plain)
        if pair.drafter:
            draft_model = weights(pair.drafter, "loading the drafter", choice.layers.draft)
            undo.callback(draft_model.close)
            if found.vocabulary:
                opened = opening.model(draft_model, found.vocabulary, target, shape)
            else:
                opened = opening.block(draft_model, files, target, shape, candidates=candidates)
        else:
            opened = opening.lookup(target, shape)
        if found.looks and kind is not Kind.LOOKUP:
            opened = opening.beside_lookup(opened)
        undo.callback(opened.drafter.close)
        known = _knowledge(pair, shape, found, options=(gpu_layers, extra_buffers, rpc, candidates))
        if reckons(policy) and (remeasure or not known.measured):
            _time(known.costs, opened, found, slots=slots, progress=partial(report, "measuring this machine"))
        chosen = named(
            policy,
            known.costs,
            gamma=gamma,
            calibration=known.calibration,
            forecast=known.forecast,
            fixed_rows=fixed_width and fixed_width * slots,
        )
        undo.pop_all()
    return runtime(target, opened.drafter, chosen, plain=plain, at_rest=known.save if reckons(policy) else None)


def _time(costs: CostTable, opened: Opened, found: _Found, *, slots: int, progress: Callable[[float], None]) -> None:
    """Fill a cost table, on a thread with which OpenMP's end: any that stay make all others slow (docs/log.md)."""

    def look() -> None:
        measure(costs, opened.timing(), gamma=found.gamma, slots=slots, longest=found.longest, progress=progress)

    with ThreadPoolExecutor(1) as aside:
        aside.submit(look).result()


def foresee(pair: Pair, *, ctx_size: int | None = None, slots: int = 1, gpu_layers: int = -1) -> fit.Choice:
    """How a pair would be loaded here and now, by the headers of its files alone.

    Raises as `load` does where the files cannot run together or do not fit.
    """
    found = _verifiable(_looked_at(pair), None)
    shape = _shape(found, ctx_size, slots, None, None)
    return _fitted(found.files, found.small, shape, ctx_size, gpu_layers, None)


@dataclass(frozen=True, slots=True)
class _Found:
    """What the files say, and what drafts: `small` and its `vocabulary` for a model of its own; `looks` as in Pair."""

    kind: Kind
    files: Inspection
    small: Inspection | None = None
    vocabulary: Translation | None = None
    looks: bool = False

    @property
    def longest(self) -> int:
        """The most drafts that a round verifies."""
        return max(self.gamma, lookup.BLOCK) if self.looks else self.gamma

    @property
    def gamma(self) -> int:
        """The most tokens of a block."""
        if self.files.spec:
            return self.files.spec.n_drafts
        return {Kind.LOOKUP: lookup.BLOCK, Kind.MODEL: chain.BLOCK}.get(self.kind, 0)


def _looked_at(pair: Pair) -> _Found:
    """Raises ModelFormatError or PairError for files that cannot run together."""
    if pair.drafter is None:
        return _Found(pair.kind or Kind.NONE, inspect_files(pair.target), looks=pair.looks)
    kind = kind_of(pair.drafter)
    if kind is Kind.MODEL:
        files, small = inspect_files(pair.target), inspect_files(pair.drafter)
        if is_recurrent(small.target):
            what = "keeps a state that cannot be taken back token by token, so it cannot draft"
            raise PairError(f"{pair.drafter.name} {what}; choose another --drafter or --no-draft")
        return _Found(kind, files, small, translation(files.target, small.target), pair.looks)
    files = inspect_files(pair.target, pair.drafter)
    return _Found(kind, files, looks=pair.looks)


def _verifiable(found: _Found, fixed_width: int | None) -> _Found:
    """Without a drafter where the target's cache never goes back, if none was asked for. Raises UsageError."""
    why = cannot_verify(found.files.target)
    if why is None:
        return found
    if fixed_width is not None and fixed_width > 1:
        raise UsageError(f"{why}, so it has no fixed width; leave out --fixed-width")
    if found.kind is Kind.NONE:
        return found
    if not found.looks or found.kind is not Kind.LOOKUP:
        raise UsageError(f"{why}, so nothing can draft for it; use --no-draft")
    _logger.warning("%s, so nothing drafts for it", why)
    return _Found(Kind.NONE, found.files)


def _shape(
    found: _Found, ctx_size: int | None, slots: int, fixed_width: int | None, threads: int | None
) -> Shape:
    return Shape(
        n_ctx=fit.context(found.files.target, ctx_size),
        n_slots=slots,
        width=fixed_width or 1 + found.longest,
        threads=threads or default_threads(),
        unified=fixed_width is None,
        polite=fixed_width is None,  # rounding may depend on the number of threads
    )


def _beside(weights: Model, shape: Shape) -> Target:
    """A second context over the same weights, without taps."""
    from dspark_local.backend.llama import LlamaTarget  # noqa: PLC0415 - as in load

    with ExitStack() as undo:
        shared = weights.share()
        undo.callback(shared.close)
        target = LlamaTarget(shared, shape)
        undo.pop_all()
    return target


def _preset(pair: Pair, files: Inspection) -> SamplingParams:
    """What the row says goes over what the file says."""
    return replace(read_preset(files.target), **pair.sampling.model_dump(exclude_none=True))


def _fitted(
    files: Inspection, small: Inspection | None, shape: Shape, ctx_size: int | None, gpu_layers: int, rpc: str | None
) -> fit.Choice:
    """How the models fit into this machine now, a small model that drafts set aside. Raises OutOfMemoryError."""
    if rpc:
        return fit.elsewhere(shape, gpu_layers)
    free = psutil.virtual_memory().available
    slots, asked = shape.n_slots, {"n_ctx": shape.n_ctx, "gpu_layers": gpu_layers, "width": shape.width}
    if choice := fit.if_small(files, small, **asked, n_slots=slots, free=free):
        return choice
    simulated = replace(shape, n_ctx=fit.SIMULATED, threads=1)
    if small:
        buffers = appraise_once(small.target.path, None, simulated, gpu_layers=gpu_layers)
        free -= fit.need(small, buffers, simulated=fit.SIMULATED, n_ctx=shape.n_ctx).total
    draft = files.draft.path if files.draft else None
    choice = fit.choose(
        files,
        appraise_once(files.target.path, draft, simulated, gpu_layers=gpu_layers),
        simulated=fit.SIMULATED,
        wanted=ctx_size,
        n_slots=slots,
        gpu_layers=gpu_layers,
        free=free,
    )
    if choice.words:
        _logger.warning(choice.words)
    return choice


def default_threads() -> int:
    """Physical cores that this process may use: decoding gains nothing from their twins."""
    allowed = len(cores())
    return min(allowed, psutil.cpu_count(logical=False) or allowed)


def _default_keep() -> int:
    """Bytes that snapshots of conversations may take, once the models have theirs."""
    return min(MOST_KEPT, psutil.virtual_memory().available // 8)


def _check(
    *, fixed_width: int | None, slots: int, threads: int | None, max_waiting: int | None, keep_bytes: int | None
) -> None:
    if fixed_width is not None and not 1 <= fixed_width <= 16:  # noqa: PLR2004 - no block is longer
        raise UsageError(f"a fixed width lies between 1 and 16, not {fixed_width}")
    if not 1 <= slots <= MAX_SLOTS:
        raise UsageError(f"slots lie between 1 and {MAX_SLOTS}, not {slots}")
    if threads is not None and threads < 1:
        raise UsageError(f"threads must be 1 or more, not {threads}")
    if max_waiting is not None and max_waiting < 0:
        raise UsageError(f"max-waiting must be 0 or more, not {max_waiting}")
    if keep_bytes is not None and keep_bytes < 0:
        raise UsageError(f"keep-bytes must be 0 (nothing is kept) or more, not {keep_bytes}")


def _check_candidates(draft_candidates: str, rpc: str | None) -> None:
    if draft_candidates not in CANDIDATES:
        raise UsageError(f"draft-candidates are looked for in {' or '.join(CANDIDATES)}, not {draft_candidates!r}")
    if draft_candidates == "backend" and rpc:  # which says of every operator that it has it, and dies of those it lacks
        raise UsageError("--draft-candidates backend and --rpc do not go together; leave one out")


def _picks(found: _Found, gpu_layers: int, extra_buffers: bool) -> bool:  # noqa: FBT001 - as _try_out says it
    """Whether llama.cpp can pick the drafter's candidates: tried in a child process, for a mistake there is fatal."""
    spec = found.files.spec
    if not (spec and spec.has_markov):
        _logger.warning("--draft-candidates backend is for DSpark drafters, and changes nothing here")
        return False
    assert found.files.draft
    files = found.files.target.path, found.files.draft.path
    verdict = probe_once(*files, use_extra_bufts=extra_buffers, gpu_layers=gpu_layers, candidates=True)
    if not verdict.ok:
        _logger.warning("the drafter's candidates are looked for in its logits: %s", verdict.detail)
    return verdict.ok


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


def _knowledge(files: Pair, shape: Shape, found: _Found, *, options: tuple[object, ...]) -> Knowledge:
    """What earlier runs learned of these files on this machine, under everything that the seconds depend on."""
    pair = identity.files([path for path in (files.target, files.drafter) if path])
    fixed_width = None if shape.unified else shape.width
    facts = (pair, shape.threads, shape.n_ctx, fixed_width, options, found.kind, *map(os.environ.get, SPINNING))
    return Knowledge.recall(
        Path(platformdirs.user_cache_dir("dspark-local")),
        costs_of=identity.digest(*facts, identity.machine()),
        pair=identity.digest(pair),
        slots=shape.n_slots,
        gamma=found.gamma,
        longest=found.longest,
    )
