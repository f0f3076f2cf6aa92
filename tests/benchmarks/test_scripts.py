"""Every benchmark starts: none imports what is no longer there."""

from __future__ import annotations

import ast
import importlib.util
import runpy
import sys
from pathlib import Path

import pytest

SCRIPTS = sorted((Path(__file__).parents[2] / "benchmarks").glob("*.py"))
BESIDE = {path.stem for path in (*SCRIPTS, *SCRIPTS[0].parents[1].glob("recipes/**/*.py"))}
PROGRAMS = [path for path in SCRIPTS if "ArgumentParser(" in path.read_text(encoding="utf-8")]


@pytest.mark.parametrize("script", PROGRAMS, ids=lambda path: path.name)
def test_a_benchmark_says_how_to_use_it(
    script: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With `--help`, which imports all that the script names at its top."""
    monkeypatch.setattr(sys, "path", [str(script.parent), *sys.path])
    monkeypatch.setattr(sys, "argv", [str(script), "--help"])
    known = set(sys.modules)
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(script), run_name="__main__")
    for name in set(sys.modules) - known:
        if name in BESIDE:  # the next one is to find its scripts by itself
            del sys.modules[name]
    assert not end.value.code
    assert "usage:" in capsys.readouterr().out


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_what_is_imported_later_is_there_too(script: Path) -> None:
    """Also imports inside functions are of modules that exist: beside the script, or installed."""
    tree = ast.parse(script.read_text(encoding="utf-8"))
    named = [a.name for node in ast.walk(tree) if isinstance(node, ast.Import) for a in node.names]
    named += [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    later = {name.split(".")[0] for name in named}
    outside = later - BESIDE - set(sys.stdlib_module_names) - {"torch"}  # an extra, which need not be there
    assert [name for name in outside if importlib.util.find_spec(name) is None] == []
