"""Which files a user means: a name, a hub id, a path; and the drafter of a target."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from dspark_local.errors import ModelNotFoundError
from dspark_local.formats.dflash import is_draft, read_draft_spec
from dspark_local.formats.gguf import GGUF
from dspark_local.models import registry
from dspark_local.models.progress import Progress, silent
from dspark_local.models.registry import SILENT, Preset, Source

if TYPE_CHECKING:
    from dspark_local.models.registry import DrafterSource, Row

_HUB_ID = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(:(?P<quant>[\w.-]+))?")
_NAME = re.compile(r"(?P<name>[^\s/:\\]+)(:(?P<quant>[\w.-]+))?")
_logger = logging.getLogger(__name__)


class Kind(StrEnum):
    """What drafts."""

    NONE = "none"
    LOOKUP = "lookup"
    DSPARK = "dspark"
    DFLASH = "dflash"
    MODEL = "model"


@dataclass(frozen=True, slots=True)
class Pair:
    """Files of a target and, where a file drafts for it, of its drafter.

    `kind` None: what that file says. `looks`: lookup makes its offers beside the drafter. `sampling` is what the row
    of the registry recommends.
    """

    name: str
    target: Path
    drafter: Path | None = None
    kind: Kind | None = None
    looks: bool = False
    sampling: Preset = SILENT


@dataclass(frozen=True, slots=True)
class Remote:
    """A model that has to be on this machine before it runs."""

    source: Source
    quant: str | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the user's words mean, before anything is fetched; the rest as in Pair."""

    name: str
    target: Path | Remote
    drafter: Path | Remote | None = None
    kind: Kind | None = None
    looks: bool = False
    sampling: Preset = SILENT


def find(model: str | Path, drafter: str | Path = "auto", progress: Progress = silent) -> Pair:
    """Files for a model and its drafter, fetched where they are not here yet.

    Raises as `resolve`, and DownloadError.
    """
    wanted = resolve(model, drafter)
    if wanted.kind is Kind.LOOKUP and wanted.looks and isinstance(wanted.target, Remote):
        _logger.warning("no drafter is known for %s, so only its text is looked up; --drafter names one", wanted.name)
    target = located(wanted.target, progress)
    drafter_file = located(wanted.drafter, progress, drafts_for=target) if wanted.drafter else None
    return Pair(wanted.name, target, drafter_file, wanted.kind, wanted.looks, wanted.sampling)


def resolve(model: str | Path, drafter: str | Path = "auto") -> Wanted:
    """What a registry name (NAME:QUANT), hub id (user/repo:QUANT) or path means; touches no network.

    `drafter` is auto, dspark, dflash, model, lookup, none, a path or a hub id. Raises ModelNotFoundError, ModelError.
    """
    text, path = str(model), Path(model)
    known = registry.rows()
    target: Path | Remote
    if text not in known and (path.exists() or _is_path(text)):
        name, target, own, row = path.stem, existing(path), beside(path), None
    elif text not in known and (found := _HUB_ID.fullmatch(text)):
        name, target, own, row = text, Remote(Source(repo=found["repo"]), found["quant"]), None, None
    else:
        found = _NAME.fullmatch(text)
        name, quant = (found["name"], found["quant"]) if found and text not in known else (text, None)
        row = registry.row(name)
        target = _remote(registry.quant(row, name, quant), quant or next(iter(row.target)))
        own = None
    wanted = _with_drafter(name, target, str(drafter), own=own, row=row)
    return replace(wanted, sampling=row.sampling) if row else wanted


def _with_drafter(name: str, target: Path | Remote, drafter: str, *, own: Path | None, row: Row | None) -> Wanted:
    if drafter in (Kind.NONE, Kind.LOOKUP):
        return Wanted(name, target, kind=Kind(drafter))
    if drafter not in ("auto", Kind.DSPARK, Kind.DFLASH, Kind.MODEL):
        path = Path(drafter)
        found = None if path.exists() or _is_path(drafter) else _HUB_ID.fullmatch(drafter)
        given: Path | Remote = Remote(Source(repo=found["repo"]), found["quant"]) if found else existing(path)
        return Wanted(name, target, given)
    auto = drafter == "auto"
    if own is not None and drafter != Kind.MODEL:
        return Wanted(name, target, own, looks=auto)
    best = _best(row, None if auto else drafter)
    if best is not None:
        return Wanted(name, target, _remote(best, None), Kind(best.kind), looks=auto)
    if not auto:
        raise ModelNotFoundError(f"no {drafter} drafter is known for {name}; give one: --drafter PATH or user/repo")
    return Wanted(name, target, kind=Kind.LOOKUP, looks=True)


def _best(row: Row | None, kind: str | None) -> DrafterSource | None:
    usable = [d for d in row.drafters if d.kind in set(Kind)] if row else []
    return next((d for d in usable if kind in (None, d.kind)), None)


def located(where: Path | Remote, progress: Progress, *, drafts_for: Path | None = None) -> Path:
    """Path of a model, after fetching it if it is not here; a drafter's checkpoint is converted for its target."""
    if isinstance(where, Path):
        return where
    from dspark_local.models import conversion, download  # noqa: PLC0415 - half a second that local files need not wait

    checkpoints = drafts_for is not None
    path = download.present(where.source, where.quant, checkpoints=checkpoints)
    if path is None:
        plan = download.plan(where.source, where.quant, checkpoints=checkpoints)
        path = download.fetch(plan, progress)
    if drafts_for is not None and path.is_dir():
        return conversion.converted(path, drafts_for, progress)
    return path


def _remote(source: Source, quant: str | None) -> Path | Remote:
    if source.path:
        return existing(source.path)
    return registry.installed_file(source.package) if source.package else Remote(source, quant)


def _is_path(text: str) -> bool:
    return text.endswith(".gguf") or text.startswith((".", "/", "~")) or "\\" in text or text.count("/") > 1


def kind_of(drafter: Path) -> Kind:
    """What a drafter's file says it is. Raises ModelFormatError."""
    file = GGUF.open(drafter)
    if not is_draft(file):
        return Kind.MODEL
    return Kind.DSPARK if read_draft_spec(file).has_markov else Kind.DFLASH


def existing(path: Path) -> Path:
    """The path, if there is a file. Raises ModelNotFoundError."""
    if path.is_dir():
        raise ModelNotFoundError(f"{path} is a folder; give a GGUF file (`dspark-local convert` makes one)")
    if not path.is_file():
        raise ModelNotFoundError(f"no such file: {path}")
    return path


def beside(target: Path) -> Path | None:
    """Drafter named by convention, `dspark-<Target>-<Type>.gguf`, in the target's folder; the longest match.

    `dflash-` in place of `dspark-` is the other kind, taken where there is no longer match of the first.
    """
    if not target.is_file():
        return None
    stem = target.stem.lower()
    files = [p for kind in (Kind.DSPARK, Kind.DFLASH) for p in target.parent.glob(f"{kind}-*.gguf")]
    found = [p for p in files if stem.startswith(_target_of(p))]
    return max(found, key=lambda p: (len(_target_of(p)), p.name), default=None)


def _target_of(drafter: Path) -> str:
    return drafter.stem.lower().partition("-")[2].rpartition("-")[0]
