"""Remembered verdicts of probe.py: one probe per file, build and machine."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import platformdirs

from dspark_local.backend import identity
from dspark_local.backend.appraisal import Buffer
from dspark_local.backend.probe import Prober, Verdict
from dspark_local.scheduling import store

if TYPE_CHECKING:
    from dspark_local.backend.base import Shape

_MOST = 500  # verdicts kept, the latest


def probe_once(
    target: Path,
    draft: Path | None = None,
    *,
    use_extra_bufts: bool = True,
    gpu_layers: int = 0,
    candidates: bool = False,
    cache: Path | None = None,
) -> Verdict:
    """Probe the files, or recall what a probe of the same files by the same build on this CPU said.

    `cache` is the file to keep verdicts in, by default in the user's cache folder. Remembered are runs and
    deaths; what llama.cpp merely refused may have been for want of memory, and is asked again.
    Raises ModelNotFoundError, BackendError.
    """
    path = cache or Path(platformdirs.user_cache_dir("dspark-local")) / "probes.json"
    facts = identity.files([target, *([draft] if draft else [])])
    key = identity.digest(facts, use_extra_bufts, gpu_layers, candidates, identity.machine())
    known = _load(path)
    if key in known:
        return known[key]
    with Prober() as prober:
        verdict = prober.check(
            target, draft, use_extra_bufts=use_extra_bufts, gpu_layers=gpu_layers, candidates=candidates
        )
    if verdict.ok or (verdict.died and "SIGKILL" not in verdict.detail):
        _save(path, dict([*_load(path).items(), (key, verdict)][-_MOST:]))
    return verdict


def appraise_once(
    target: Path,
    draft: Path | None,
    shape: Shape,
    *,
    use_extra_bufts: bool = True,
    gpu_layers: int = 0,
) -> tuple[Buffer, ...]:
    """What a pair would take in this shape, by simulation, or as one said before; empty where it cannot be told."""
    path = Path(platformdirs.user_cache_dir("dspark-local")) / "appraisals.json"
    facts = identity.files([target, *([draft] if draft else [])])
    key = identity.digest(facts, use_extra_bufts, gpu_layers, asdict(shape), identity.machine())
    known = store.read(path, key)
    if isinstance(known, dict) and isinstance(known.get("buffers"), list):
        return tuple(Buffer(**buffer) for buffer in known["buffers"])
    with Prober() as prober:
        said = prober.appraise(target, draft, shape, use_extra_bufts=use_extra_bufts, gpu_layers=gpu_layers)
    if isinstance(said, Verdict):
        return ()
    if not any(buffer.use == "free" for buffer in said):  # what a GPU has free is another thing each time
        store.write(path, key, {"buffers": [asdict(buffer) for buffer in said]})
    return said


def _load(path: Path) -> dict[str, Verdict]:
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        return {key: Verdict(bool(e["ok"]), str(e["detail"]), bool(e["died"])) for key, e in entries.items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):  # none yet, or damaged: probe again
        return {}


def _save(path: Path, verdicts: dict[str, Verdict]) -> None:
    with contextlib.suppress(OSError):  # a cache that cannot be written costs a second, not the program
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, beside = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".part")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump({key: asdict(verdict) for key, verdict in verdicts.items()}, file)
            Path(beside).replace(path)
        finally:
            Path(beside).unlink(missing_ok=True)
