"""The convert command: a folder in, a file out, one line when it does not work."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from dspark_local.formats.inspection import inspect_files
from tests.convert import checkpoints

COMMAND = Path(sys.executable).with_name("dspark-local" + (".exe" if os.name == "nt" else ""))


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([COMMAND, "convert", *arguments], cwd=folder, capture_output=True, text=True, check=False)


def test_a_pair_is_converted_and_named_by_convention(tmp_path: Path) -> None:
    """The drafter's name is the one by which it is found beside its target."""
    checkpoints.target(tmp_path / "Tiny")
    checkpoints.draft(tmp_path / "tiny_block4")
    assert run(tmp_path, "target", "Tiny", "--to", "q8_0").stdout == "Tiny-Q8_0.gguf\n"
    assert run(tmp_path, "draft", "tiny_block4", "--target", "Tiny", "--to", "F16").stdout == "dspark-Tiny-F16.gguf\n"
    inspect_files(tmp_path / "Tiny-Q8_0.gguf", tmp_path / "dspark-Tiny-F16.gguf")


def test_what_does_not_work_is_one_line(tmp_path: Path) -> None:
    """Exit code 2, nothing on standard output."""
    checkpoints.target(tmp_path / "Tiny")
    for arguments in (("target", "nowhere"), ("target", "Tiny", "--to", "Q3_Z"), ("target", "Tiny", "--out", ".")):
        done = run(tmp_path, *arguments)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
        assert done.stderr.startswith("dspark-local: ")
