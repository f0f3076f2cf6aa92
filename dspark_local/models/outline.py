"""The outline of a GGUF that is not here: its header, and holes for the rest, which take no room on most disks.

Whoever reads headers alone cannot tell it from the model, so it fits here or does not as the model would.
"""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from huggingface_hub import hf_hub_url
from huggingface_hub.utils._headers import build_hf_headers
from huggingface_hub.utils._http import hf_raise_for_status, http_stream_backoff

from dspark_local.formats.header import read_header
from dspark_local.models import hub

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dspark_local.models.download import Plan
    from dspark_local.models.quants import File


def outline(plan: Plan, folder: Path) -> Path:
    """Write the outlines of all files of a plan to a folder; path of the first.

    Raises ModelFormatError for what is no GGUF, DownloadError and ModelNotFoundError as a fetch does.
    """
    paths = []
    for file in plan.files:
        with _opened(plan, file) as stream:
            header = read_header(Path(file.path), stream, file.size)
        paths.append(folder / PurePosixPath(file.path).name)
        with paths[-1].open("wb") as out:
            out.write(header.data)
            out.truncate(file.size)
    return paths[0]


class _Stream:
    """What arrives of a file, from its beginning."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._piece = b""

    def read(self, n: int, /) -> bytes:
        """At most n bytes; none at the end."""
        self._piece = self._piece or next(self._pieces, b"")
        taken, self._piece = self._piece[:n], self._piece[n:]
        return taken


@contextmanager
def _opened(plan: Plan, file: File) -> Iterator[_Stream]:
    """A file of the hub; what nobody reads of it does not come."""
    url = hf_hub_url(plan.repo, file.path, revision=plan.revision)
    with hub.told(plan.repo), http_stream_backoff("GET", url, headers=build_hf_headers()) as response:
        hf_raise_for_status(response)
        yield _Stream(response.iter_bytes())
