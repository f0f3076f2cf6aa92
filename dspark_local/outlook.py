"""What a model would take of this machine, before it is fetched."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import psutil

from dspark_local.errors import DSparkError, OutOfMemoryError
from dspark_local.loading import foresee
from dspark_local.models.locations import Pair, resolve
from dspark_local.models.progress import size

if TYPE_CHECKING:
    from dspark_local.models.download import Plan
    from dspark_local.models.fit import Choice
    from dspark_local.models.locations import Remote, Wanted


@dataclass(frozen=True, slots=True)
class Outlook:
    """Bytes: of a model's files and its drafter's, of those still to fetch, and what is free of memory and of disk.

    `drafter`: whether a model drafts. `choice`: how the pair would be loaded now, by the headers of its files; None
    where these do not tell, or where it does not fit, and `refused` says so.
    """

    size: int
    missing: int
    memory: int
    disk: int
    drafter: bool
    choice: Choice | None = None
    refused: str = ""

    @property
    def words(self) -> str:
        """Whether it can be fetched and loaded here: by the headers of its files, or as far as their sizes tell."""
        parts = [] if self.drafter else ["no model drafts for it"]
        if self.missing:
            room = "" if self.missing < self.disk else f", more than the disk's {size(self.disk)}"
            parts.append(f"{size(self.missing)} to fetch{room}")
        against = f"of {size(self.memory)} of memory that are free now"
        if self.choice:
            need, kv = self.choice.need.total, "" if self.choice.kv == "f16" else f" in {self.choice.kv}"
            parts.append(f"takes {size(need)} {against}, with a context of {self.choice.n_ctx:,} tokens{kv}")
        elif self.refused:
            parts.append(f"does not fit: {self.refused}")
        elif self.size > self.memory:
            parts.append(f"does not fit: its files alone take {size(self.size)} {against}")
        else:
            parts.append(f"its files take {size(self.size)} {against}; the context comes on top")
        return " · ".join(parts)


def outlook(model: str, drafter: str = "auto") -> Outlook:
    """What a model takes; asks the hub where it is not here, for sizes and headers.

    Raises as `models.locations.resolve` does, and DownloadError.
    """
    wanted = resolve(model, drafter)
    with TemporaryDirectory(prefix="dspark-local-", ignore_cleanup_errors=True) as folder:
        size, missing, target = _looked_up(wanted.target, Path(folder), checkpoints=False)
        more, lacking, drafts = _looked_up(wanted.drafter, Path(folder), checkpoints=True)
        free = psutil.virtual_memory().available
        choice, refused = _foreseen(wanted, target, drafts, too_large=size + more > free)
    return Outlook(size + more, missing + lacking, free, _disk(), wanted.drafter is not None, choice, refused)


def _foreseen(
    wanted: Wanted, target: Path | None, drafter: Path | None, *, too_large: bool
) -> tuple[Choice | None, str]:
    """How the pair would be loaded; of a drafter that is still to be converted only the size is known."""
    if target is None or (wanted.drafter and drafter is None and too_large):
        return None, ""
    try:
        return foresee(Pair(wanted.name, target, drafter, wanted.kind if drafter else None, wanted.looks)), ""
    except OutOfMemoryError as error:
        return None, str(error)
    except DSparkError:  # whoever loads it is told why
        return None, ""


def _looked_up(where: Path | Remote | None, folder: Path, *, checkpoints: bool) -> tuple[int, int, Path | None]:
    """Bytes of a model's files, and of those that are missing; a file that says what they are, if there is a GGUF."""
    if where is None:
        return 0, 0, None
    if isinstance(where, Path):
        return where.stat().st_size, 0, where
    from dspark_local.models import cache, download  # noqa: PLC0415 - the hub's client takes half a second

    path = download.present(where.source, where.quant, checkpoints=checkpoints)
    root = cache.snapshot(where.source.repo or "", where.source.revision)
    if path is None or root is None:
        plan = download.plan(where.source, where.quant, checkpoints=checkpoints)
        return plan.size, plan.missing, _outline(plan, folder)
    files = cache.files(where.source.repo or "", where.source.revision)
    parts = None if path.is_dir() else download.parts(path.relative_to(root).as_posix(), files)
    size = sum(f.size for f in files if parts is None or f.path in parts)
    return size, 0, None if path.is_dir() else path


def _outline(plan: Plan, folder: Path) -> Path | None:
    from dspark_local.models.outline import outline  # noqa: PLC0415 - as above

    if plan.checkpoint:
        return None
    try:
        return outline(plan, folder)
    except (DSparkError, OSError):  # sizes are known all the same
        return None


def _disk() -> int:
    from dspark_local.models import cache  # noqa: PLC0415 - as above

    near = next(folder for folder in (cache.folder(), *cache.folder().parents) if folder.is_dir())
    return shutil.disk_usage(near).free
