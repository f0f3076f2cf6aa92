"""The hub's real client, in this process and in children, against a stand-in for the hub."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from huggingface_hub import constants

from tests.models.hub import PIECE, Hub, serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

REPO, FILE = "maker/Tiny-GGUF", "tiny-Q4_K_M.gguf"
DATA = random.Random(1).randbytes(40 * PIECE)

# A child in which the client writes often, so that there is a middle to be killed in.
CHILD = """
import sys
from huggingface_hub import constants
constants.DOWNLOAD_CHUNK_SIZE = {piece}
{extra}
from dspark_local.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """A hub with one model, and an empty cache for its client."""
    with serving(Hub({REPO: {FILE: DATA, "README.md": b"A tiny model."}})) as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.url + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf" / "hub"))
        monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", PIECE)
        monkeypatch.setattr("time.sleep", lambda _: None)  # between the attempts of the client
        monkeypatch.delenv("HF_TOKEN", raising=False)
        yield hub


@pytest.fixture
def pulling(hub: Hub, tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    """Start `dspark-local models pull` as a process with the same hub and cache."""

    def start(*arguments: str, extra: str = "", **environment: str) -> subprocess.Popen[str]:
        env = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf"), **environment}
        command = [
            sys.executable,
            "-c",
            CHILD.format(piece=PIECE, extra=extra),
            "models",
            "pull",
            *(arguments or [REPO]),
        ]
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(command, cwd=tmp_path, env=env, **pipes)

    return start
