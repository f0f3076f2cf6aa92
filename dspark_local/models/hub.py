"""The Hugging Face hub: what a repository holds, and one line for each way in which it refuses.

Its own client does the talking, so HF_HOME, HF_TOKEN, HF_ENDPOINT and HF_HUB_OFFLINE mean what they mean elsewhere.
"""

from __future__ import annotations

import errno
from contextlib import contextmanager
from typing import TYPE_CHECKING

from huggingface_hub import HfApi, constants
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import RepoFile

from dspark_local.errors import DownloadError, DSparkError, ModelNotFoundError
from dspark_local.models.quants import File

if TYPE_CHECKING:
    from collections.abc import Iterator

_FULL = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}  # Windows knows no quota
_READ_ONLY = {errno.EACCES, errno.EROFS, errno.EPERM}
_TRANSPORTS = ("httpx", "httpcore", "hf_xet")  # by name: which of them carries the bytes is the client's affair
_UNAUTHORISED, _FORBIDDEN, _BUSY, _BROKEN = 401, 403, 429, 500
LOGIN = "accept its terms at {page} if it has any, then set HF_TOKEN or run `hf auth login`"


def files(repo: str, revision: str | None = None) -> list[File]:
    """All files of a repository. Raises ModelNotFoundError, DownloadError."""
    with told(repo):
        tree = HfApi().list_repo_tree(repo, recursive=True, revision=revision)
        return [_file(entry) for entry in tree if isinstance(entry, RepoFile)]


def _file(entry: RepoFile) -> File:
    return File(entry.path, entry.size, entry.lfs.sha256 if entry.lfs else None)


@contextmanager
def told(repo: str) -> Iterator[None]:
    """Whatever goes wrong with the hub, as one of our errors."""
    try:
        yield
    except DSparkError:
        raise
    except Exception as error:
        ours = _ours(repo, error)
        if ours is None:
            raise
        raise ours from error


_LINES: tuple[tuple[type[Exception], type[DSparkError], str], ...] = (  # the first that fits; {repo} and {page}
    (GatedRepoError, DownloadError, "{repo} is gated: " + LOGIN),
    (
        RepositoryNotFoundError,
        ModelNotFoundError,
        "the hub has no {repo}, or it is private: check the name, or set HF_TOKEN",
    ),
    (RevisionNotFoundError, ModelNotFoundError, "{repo} has no such revision"),
    (RemoteEntryNotFoundError, ModelNotFoundError, "{repo} does not hold this file any more"),
    (HFValidationError, ModelNotFoundError, "{repo} is no hub id; one looks like user/name"),
)


def _ours(repo: str, error: Exception) -> DSparkError | None:
    if constants.HF_HUB_OFFLINE and isinstance(error, (OfflineModeIsEnabled, LocalEntryNotFoundError)):
        return DownloadError(f"{repo} is not on this machine, and HF_HUB_OFFLINE forbids to fetch it")
    if isinstance(error, LocalEntryNotFoundError) and isinstance(error.__cause__, HfHubHTTPError):
        error = error.__cause__  # the client says that it found nothing here either, and keeps why it looked
    page = f"{constants.ENDPOINT}/{repo}"
    for theirs, ours, line in _LINES:
        if isinstance(error, theirs):
            return ours(line.format(repo=repo, page=page))
    if isinstance(error, HfHubHTTPError):
        return _refused(repo, page, error)
    if isinstance(error, OSError) and (disk := _disk(error)):
        return DownloadError(disk)
    if isinstance(error, OSError) or type(error).__module__.split(".")[0].startswith(_TRANSPORTS):
        why = " ".join(str(error).split())[:120]
        return DownloadError(f"{repo} cannot be fetched ({why}); try again, it goes on where it stopped")
    return None


def _disk(error: OSError) -> str | None:
    if error.errno in _FULL:
        return f"the disk is full ({constants.HF_HUB_CACHE}); make room, then go on where it stopped"
    if error.errno in _READ_ONLY:
        return f"{error.filename or constants.HF_HUB_CACHE} is not writable; set HF_HOME to a place that is"
    return None


def _refused(repo: str, page: str, error: HfHubHTTPError) -> DSparkError:
    status = error.response.status_code
    if status in (_UNAUTHORISED, _FORBIDDEN):
        return DownloadError(f"the hub refuses {repo} ({status}): {LOGIN.format(page=page)}")
    if status == _BUSY:
        return DownloadError("the hub has had too many requests from here (429); wait some minutes, or set HF_TOKEN")
    if status >= _BROKEN:
        return DownloadError(f"the hub is out of order ({status}); try again later")
    return DownloadError(f"the hub refuses {repo} ({status}): {error.server_message or 'no reason given'}")
