"""Which models there are to choose from, and what choosing one would take. Not for the screen's own thread."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from dspark_local.models import registry
from dspark_local.models.locations import resolve

if TYPE_CHECKING:
    from dspark_local.models.locations import Remote
    from dspark_local.models.registry import Row


@dataclass(frozen=True, slots=True)
class Item:
    """A model by the name that loads it; `here`: nothing has to be fetched; `what` it is, in a line."""

    name: str
    what: str
    here: bool


@dataclass(frozen=True, slots=True)
class Outlook:
    """Bytes: of a model's files and its drafter's, of those still to fetch, and what is free of memory and of disk.

    `drafter`: whether a model drafts.
    """

    size: int
    missing: int
    memory: int
    disk: int
    drafter: bool


def items() -> list[Item]:
    """The registry's models that have a GGUF, those that are here first; then what else the hub's cache holds."""
    from dspark_local.models import cache  # noqa: PLC0415 - the hub's client takes half a second

    rows = registry.rows()
    known = [Item(name, row.description, _here(name)) for name, row in rows.items() if row.target]
    repos = {source.repo for row in rows.values() for source in _sources(row)}
    others = [
        Item(str(root / file.path), f"{repo}, in the hub's cache", here=True)
        for repo in cache.repos()
        if repo not in repos and (root := cache.snapshot(repo))
        for file in cache.files(repo)
        if file.path.endswith(".gguf")
    ]
    return sorted([*known, *others], key=lambda item: not item.here)


def outlook(model: str, drafter: str = "auto") -> Outlook:
    """What a model takes; asks the hub where it is not here.

    Raises as `resolve` does, and DownloadError.
    """
    wanted = resolve(model, drafter)
    size = missing = 0
    for where, drafts in ((wanted.target, False), (wanted.drafter, True)):
        if isinstance(where, Path):
            size += where.stat().st_size
        elif where:
            more, lacking = _remote(where, checkpoints=drafts)
            size, missing = size + more, missing + lacking
    return Outlook(size, missing, psutil.virtual_memory().available, _disk(), wanted.drafter is not None)


def _here(name: str) -> bool:
    from dspark_local.models import download  # noqa: PLC0415 - as above

    wanted = resolve(name)
    remotes = [(where, drafts) for where, drafts in ((wanted.target, False), (wanted.drafter, True)) if where]
    return all(
        isinstance(where, Path) or download.present(where.source, where.quant, checkpoints=drafts)
        for where, drafts in remotes
    )


def _remote(where: Remote, *, checkpoints: bool) -> tuple[int, int]:
    from dspark_local.models import cache, download  # noqa: PLC0415 - as above

    path = download.present(where.source, where.quant, checkpoints=checkpoints)
    root = cache.snapshot(where.source.repo or "", where.source.revision)
    if path is None or root is None:
        plan = download.plan(where.source, where.quant, checkpoints=checkpoints)
        return plan.size, plan.missing
    files = cache.files(where.source.repo or "", where.source.revision)
    parts = None if path.is_dir() else download.parts(path.relative_to(root).as_posix(), files)
    return sum(f.size for f in files if parts is None or f.path in parts), 0


def _disk() -> int:
    from dspark_local.models import cache  # noqa: PLC0415 - as above

    near = next(folder for folder in (cache.folder(), *cache.folder().parents) if folder.is_dir())
    return shutil.disk_usage(near).free


def _sources(row: Row) -> list[registry.Source]:
    return [*row.target.values(), *row.drafters]
