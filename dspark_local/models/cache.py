"""The hub's cache on this machine, shared with other tools: what is there, without asking anybody."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from huggingface_hub import constants

from dspark_local.models.quants import File

if TYPE_CHECKING:
    from collections.abc import Iterable

_MAIN = "main"


def folder() -> Path:
    """Where the cache is."""
    return Path(constants.HF_HUB_CACHE)


def storage(repo: str) -> Path:
    """A repository's part of the cache: blobs, refs, snapshots."""
    return folder() / f"models--{repo.replace('/', '--')}"


def snapshot(repo: str, revision: str | None = None) -> Path | None:
    """Folder that mirrors a repository's revision as far as it was fetched."""
    wanted = revision or _MAIN
    ref = storage(repo) / "refs" / wanted
    try:
        commit = ref.read_text(encoding="utf-8").strip() if ref.is_file() else wanted
    except OSError:
        return None
    path = storage(repo) / "snapshots" / commit
    return path if path.is_dir() else None


def files(repo: str, revision: str | None = None) -> list[File]:
    """What of a repository is here."""
    root = snapshot(repo, revision)
    if root is None:
        return []
    return [File(p.relative_to(root).as_posix(), p.stat().st_size) for p in sorted(root.rglob("*")) if p.is_file()]


def blob(repo: str, sha256: str) -> Path:
    """Where a large file's bytes belong."""
    return storage(repo) / "blobs" / sha256


def repos() -> list[str]:
    """Repositories of which something is here."""
    found = sorted(p.name for p in folder().glob("models--*--*") if p.is_dir())
    return [name.removeprefix("models--").replace("--", "/", 1) for name in found]


def settle(repo: str, pointer: Path, sha256: str) -> None:
    """Where no links can be made, as on most Windows, the hub's client copies bytes: those that it copied go."""
    if not pointer.is_symlink() and not _linked(repo, blob(repo, sha256)):
        blob(repo, sha256).unlink(missing_ok=True)


def _linked(repo: str, data: Path) -> bool:
    return any(p.resolve() == data.resolve() for p in (storage(repo) / "snapshots").rglob("*") if p.is_symlink())


def remove(repo: str, paths: Iterable[str], revision: str | None = None) -> int:
    """Remove files of a repository, and bytes that no other snapshot has; returns how many bytes that freed."""
    root = snapshot(repo, revision)
    if root is None:
        return 0
    freed = 0
    for path in paths:
        pointer = root / path
        data = pointer.resolve()
        held = data.stat().st_size if data.exists() else 0
        pointer.unlink()
        if not _linked(repo, data):
            freed += held
            data.unlink(missing_ok=True)
    return freed
