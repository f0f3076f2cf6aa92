"""Fetching from the hub into its shared cache: sizes first, then bytes, checked before they count.

The hub's client keeps nothing of a download that was interrupted, so large files come through its transfer into a
partial file of ours, which the next attempt continues; it moves to its place in the cache when its SHA-256 is right.
"""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from huggingface_hub import hf_hub_download, hf_hub_url
from huggingface_hub.file_download import http_get
from huggingface_hub.utils._fixes import WeakFileLock
from huggingface_hub.utils._headers import build_hf_headers

from dspark_local.errors import DownloadError, ModelNotFoundError
from dspark_local.models import cache, hub, quants
from dspark_local.models.progress import Progress, Transfer, silent, size

if TYPE_CHECKING:
    from dspark_local.models.quants import File
    from dspark_local.models.registry import Source

_MOST_BY_HTTP = 50_000_000_000  # beyond, the hub serves its own protocol only, which its client speaks
_SPARE = 256 << 20  # bytes of disk that stay free
_PIECE = 1 << 22


@dataclass(frozen=True, slots=True)
class Plan:
    """Files of one repository that make a model, and which of them are here; `folder` for a checkpoint."""

    repo: str
    revision: str | None
    files: tuple[File, ...]
    here: frozenset[str]
    checkpoint: bool = False

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(f.size for f in self.files)

    @property
    def missing(self) -> int:
        """Bytes that are still to fetch, partial files counted as far as they are."""
        return sum(f.size - _started(self.repo, f) for f in self.files if f.path not in self.here)


def present(source: Source, quant: str | None = None, *, checkpoints: bool = False) -> Path | None:
    """Path of a model that is wholly in the cache: a GGUF, or a checkpoint's folder; asks nobody."""
    assert source.repo
    try:
        chosen = _choose(source, cache.files(source.repo, source.revision), quant, checkpoints=checkpoints)
    except ModelNotFoundError:
        return None
    root = cache.snapshot(source.repo, source.revision)
    assert root
    if chosen[0].path.endswith(".gguf"):
        return root / chosen[0].path
    return root if chosen[-1].path == quants.CONFIG else None


def plan(source: Source, quant: str | None = None, *, checkpoints: bool = False) -> Plan:
    """What a pull would fetch, and how large it is. Raises ModelNotFoundError, DownloadError."""
    assert source.repo
    files = _choose(source, hub.files(source.repo, source.revision), quant, checkpoints=checkpoints)
    if source.sha256 and files[0].sha256 != source.sha256:
        raise DownloadError(
            f"{files[0].path} of {source.repo} is not the file that the registry names (its SHA-256 differs)"
        )
    here = frozenset(f.path for f in cache.files(source.repo, source.revision))
    return Plan(source.repo, source.revision, files, here, checkpoint=not files[0].path.endswith(".gguf"))


def fetch(wanted: Plan, progress: Progress = silent) -> Path:
    """Fetch what is missing; path of the first file, or of the checkpoint's folder.

    Raises DownloadError; what has arrived is kept, and the next call goes on from there.
    """
    _check_disk(wanted)
    first = wanted.files[0].path
    transfer = Transfer(progress, f"fetching {first.rpartition('/')[2]}", wanted.size, wanted.size - wanted.missing)
    paths = []
    with hub.told(wanted.repo):
        for file in wanted.files:
            ours = file.sha256 and file.size <= _MOST_BY_HTTP and file.path not in wanted.here
            if ours:
                _fetch_large(wanted, file, transfer, progress)
            path = hf_hub_download(wanted.repo, file.path, revision=wanted.revision, tqdm_class=_meter(transfer))
            paths.append(Path(path))
            if ours and file.sha256:
                cache.settle(wanted.repo, paths[-1], file.sha256)
    return paths[0].parent if wanted.checkpoint else paths[0]


def parts(path: str, files: list[File]) -> list[str]:
    """Paths of all parts of the model whose first part this is."""
    return [f.path for f in quants.named(files, path, where=path)]


def _choose(source: Source, files: list[File], quant: str | None, *, checkpoints: bool) -> tuple[File, ...]:
    assert source.repo
    if source.file:
        return quants.named(files, source.file, where=source.repo)
    if checkpoints and not quants.ggufs(files) and (found := quants.checkpoint(files)):
        return found
    return quants.choose(files, quant, where=source.repo)


def _partial(repo: str, file: File) -> Path:
    assert file.sha256
    return cache.blob(repo, f"{file.sha256}.dspark.incomplete")


def _started(repo: str, file: File) -> int:
    """Bytes of a file that an earlier attempt left, or that only lack their name in the snapshot."""
    if file.sha256 is None:
        return 0
    if cache.blob(repo, file.sha256).is_file():
        return file.size
    partial = _partial(repo, file)
    return min(partial.stat().st_size, file.size) if partial.is_file() else 0


def _check_disk(wanted: Plan) -> None:
    near = next(p for p in (cache.folder(), *cache.folder().parents) if p.is_dir())
    free = shutil.disk_usage(near).free
    if wanted.missing and wanted.missing + _SPARE > free:
        raise DownloadError(
            f"{wanted.repo} needs {size(wanted.missing)} more and {near} has {size(free)} free; make room "
            "(`dspark-local models rm`), choose a smaller quant, or set HF_HOME to another disk"
        )


def _fetch_large(wanted: Plan, file: File, transfer: Transfer, progress: Progress) -> None:
    """Put a large file's bytes in their place, under the lock that the hub's client takes for them."""
    assert file.sha256
    blob, partial = cache.blob(wanted.repo, file.sha256), _partial(wanted.repo, file)
    lock = cache.folder() / ".locks" / blob.parent.parent.name / f"{file.sha256}.lock"
    for parent in (blob.parent, lock.parent):
        parent.mkdir(parents=True, exist_ok=True)
    with WeakFileLock(lock):
        if blob.exists():  # another process was here meanwhile
            return
        if partial.exists() and partial.stat().st_size > file.size:
            partial.unlink()
        with partial.open("ab") as out:
            http_get(
                hf_hub_url(wanted.repo, file.path, revision=wanted.revision),
                out,
                resume_size=out.tell(),
                headers=build_hf_headers(),
                expected_size=file.size,
                tqdm_class=_meter(transfer),
            )
        if _sha256(partial, progress) != file.sha256:
            partial.unlink()
            raise DownloadError(f"{file.path} arrived damaged (its SHA-256 is wrong) and was thrown away; try again")
        partial.replace(blob)


def _sha256(path: Path, progress: Progress) -> str:
    digest, total, done = hashlib.sha256(), path.stat().st_size, 0
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            digest.update(piece)
            done += len(piece)
            progress("checking what arrived", done / max(1, total))
    return digest.hexdigest()


def _meter(transfer: Transfer) -> Any:  # noqa: ANN401 - what stands in for tqdm has no type that says so
    """Stands in for the class of tqdm that the hub's client draws its bars with."""

    class Meter:
        format_dict: ClassVar[dict[str, float]] = {}

        def __init__(self, *_: object, **__: object) -> None:
            self.total = self.n = 0

        def update(self, n: float | None = 1) -> None:
            transfer.add(int(n or 0))

        def nothing(self, *_: object, **__: object) -> None:
            """Draw nothing."""

        close = refresh = reset = set_description = set_postfix = set_postfix_str = nothing

        def __enter__(self) -> Self:
            return self

        def __exit__(self, *_: object) -> None:
            """Nothing to close."""

    return Meter
