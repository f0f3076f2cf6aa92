"""Every benchmark starts: none imports what is no longer there."""

from __future__ import annotations

import ast
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = sorted((Path(__file__).parents[2] / "benchmarks").glob("*.py"))
PROGRAMS = [path for path in SCRIPTS if "ArgumentParser(" in path.read_text(encoding="utf-8")]


@pytest.mark.parametrize("script", PROGRAMS, ids=lambda path: path.name)
def test_a_benchmark_says_how_to_use_it(script: Path) -> None:
    """With `--help`, which imports all that the script names at its top."""
    done = subprocess.run([sys.executable, script, "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "usage:" in done.stdout


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_what_is_imported_later_is_there_too(script: Path) -> None:
    """Also imports inside functions are of modules that exist: beside the script, or installed."""
    tree = ast.parse(script.read_text(encoding="utf-8"))
    named = [a.name for node in ast.walk(tree) if isinstance(node, ast.Import) for a in node.names]
    named += [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    later = {name.split(".")[0] for name in named}
    beside = {path.stem for path in (*SCRIPTS, *SCRIPTS[0].parents[1].glob("recipes/**/*.py"))}
    outside = later - beside - set(sys.stdlib_module_names) - {"torch"}  # an extra, which need not be there
    assert [name for name in outside if importlib.util.find_spec(name) is None] == []
