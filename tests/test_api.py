"""What apps may rely on: names, signatures, error codes, types, silence. docs/library.md says when it may change."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib import resources
from pathlib import Path

import pytest

import dspark_local
from dspark_local import errors
from tests import api

TESTS = Path(__file__).parent
PATIENCE = 120


def test_the_public_interface_is_the_pinned_one() -> None:
    """A change shows here. If it is meant: write api.txt anew as api.py says, and the change into CHANGELOG.md."""
    assert list(api.lines()) == (TESTS / "api.txt").read_text(encoding="utf-8").splitlines()


def test_the_package_is_typed() -> None:
    assert resources.files("dspark_local").joinpath("py.typed").is_file()


def test_every_error_is_public_and_has_a_documented_code_of_its_own() -> None:
    """The table of docs/library.md has a row for each, and no other."""
    found = {name: e for name, e in vars(errors).items() if isinstance(e, type) and issubclass(e, errors.DSparkError)}
    assert set(found) <= set(dspark_local.__all__)
    codes = {error.code: name for name, error in found.items()}
    assert len(codes) == len(found)
    text = (TESTS.parent / "docs" / "library.md").read_text(encoding="utf-8")
    assert dict(re.findall(r"^\| `(\w+)` \| `(\w+)` \|", text, re.MULTILINE)) == codes


LISTENING = """
import logging
heard = []
class Ear(logging.Handler):
    def emit(self, record):
        heard.append((record.name, record.levelno, record.getMessage()))
logging.getLogger().addHandler(Ear())
logging.getLogger().setLevel(logging.DEBUG)
"""
LOADING = """
import dspark_local
with dspark_local.load("demo", policy="plain") as runtime:
    runtime.chat([{"role": "user", "content": "Hi"}], max_tokens=2).result()
"""
FAILING = """
import logging
logging.getLogger("dspark_local.loading").error("told to who listens")
"""
HEARD = """
names = {name for name, _, _ in heard}
assert "dspark_local.llama" in names, names
assert "dspark_local.loading" in names, names
assert all(name.startswith(("dspark_local", "asyncio")) for name in names), names
assert any("n_ctx" in line for name, _, line in heard if name == "dspark_local.llama")
"""


@pytest.mark.parametrize("script", [LOADING + FAILING, LISTENING + LOADING + FAILING + HEARD])
def test_logging_is_silent_unless_an_app_listens(script: str, tmp_path: Path) -> None:
    """Nothing on either stream, llama.cpp's log included; all of it reaches the handlers of who set some up."""
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
