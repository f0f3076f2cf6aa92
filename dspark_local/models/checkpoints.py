"""What `convert` reads, by folder, file or hub id, fetched where it is not on this machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from dspark_local.errors import ModelNotFoundError
from dspark_local.models import cache, download, hub, quants
from dspark_local.models.locations import Remote, resolve

if TYPE_CHECKING:
    from dspark_local.models.progress import Progress
    from dspark_local.models.quants import File
    from dspark_local.models.registry import Source

_INDEX = "model.safetensors.index.json"


def find_checkpoint(where: str, progress: Progress, *, part: str = "") -> Path:
    """Folder of a checkpoint: the path that is named, or a hub id's folder in the hub's cache.

    Where tensors of names that begin with `part` lie in shards among others, only those shards are fetched.
    Raises ModelNotFoundError, DownloadError; what has arrived is kept, and the next call goes on from there.
    """
    wanted = _wanted(where)
    if isinstance(wanted, Path):
        return wanted
    repo, revision = wanted.source.repo, wanted.source.revision
    assert repo
    here = cache.files(repo, revision)
    found, root = quants.checkpoint(here), cache.snapshot(repo, revision)
    if root and found and found[-1].path == quants.CONFIG:
        return root
    files = quants.checkpoint(hub.files(repo, revision))
    if not files or files[-1].path != quants.CONFIG:
        raise ModelNotFoundError(
            f"{repo} holds no checkpoint ({quants.CONFIG} and safetensors) that could be converted"
        )
    wanted_files = _holding(wanted.source, files, part, progress) if part else files
    plan = download.Plan(repo, revision, wanted_files, frozenset(f.path for f in here), checkpoint=True)
    return download.fetch(plan, progress)


def _holding(source: Source, files: tuple[File, ...], part: str, progress: Progress) -> tuple[File, ...]:
    """All but the shards without tensors of such names; all, where no tensor is named so."""
    index = [f for f in files if f.path == _INDEX]
    if not index:
        return files
    assert source.repo
    path = download.fetch(download.Plan(source.repo, source.revision, tuple(index), frozenset()), progress)
    try:
        shards = {file for name, file in json.loads(path.read_bytes())["weight_map"].items() if name.startswith(part)}
    except (ValueError, KeyError, AttributeError, TypeError):
        return files  # whoever reads the checkpoint says what is wrong with it
    return tuple(f for f in files if f.path in shards or not f.path.endswith(".safetensors")) if shards else files


def find_target(where: str, progress: Progress) -> Path:
    """A target to convert a drafter for: a path, or a hub id's GGUF, or its checkpoint's folder where it has none.

    Raises as `find_checkpoint`.
    """
    wanted = _wanted(where)
    if isinstance(wanted, Path):
        return wanted
    found = download.present(wanted.source, wanted.quant, checkpoints=True)
    return found or download.fetch(download.plan(wanted.source, wanted.quant, checkpoints=True), progress)


def _wanted(where: str) -> Path | Remote:
    path = Path(where)
    return path if path.exists() else resolve(where, "none").target
