"""`dspark-local doctor`."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import pytest

from dspark_local.backend.neighbours import SPINS
from dspark_local.backend.probe import Verdict
from dspark_local.cli import checks, wheels
from dspark_local.cli.checks import Finding, Level, features

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import Command


def test_it_looks_at_everything_and_this_machine_is_well(dspark: Command) -> None:
    """A line a subject, each with its level; nothing fails where the tests run."""
    done = dspark("doctor")
    lines = done.out.splitlines()
    assert done.code == 0
    assert {line.split()[0] for line in lines} <= {"ok", "warn"}
    for subject in (
        "python",
        "llama-cpp-python",
        "C++ symbols",
        "processor",
        "memory",
        "cache",
        "demo pair",
        "a round",
    ):
        assert any(subject in line for line in lines)


def test_an_essential_failure_is_exit_code_1_and_says_what_to_do(
    dspark: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other lines are printed all the same."""
    monkeypatch.setattr("dspark_local.cli.checks.find", _raise)
    done = dspark("doctor")
    assert done.code == 1
    assert any(line.startswith("fail") and "reinstall" in line for line in done.out.splitlines())
    assert "python" in done.out


def test_a_build_that_crashes_is_a_warning_if_there_is_a_way_round(monkeypatch: pytest.MonkeyPatch) -> None:
    """AMX and an old compiler: plain kernels still work, and the remedy says how to get fast ones."""

    def probe(*_: object, use_extra_bufts: bool = True) -> Verdict:
        return Verdict(ok=not use_extra_bufts, detail="SIGSEGV", died=use_extra_bufts)

    monkeypatch.setattr(checks, "probe_once", probe)
    trial = [f for f in checks.demo() if f.subject == "a round"]
    assert [f.level for f in trial] == [Level.WARN]
    assert "AMX" in trial[0].remedy


def test_a_build_that_runs_nothing_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """What llama.cpp said is told."""
    monkeypatch.setattr(checks, "probe_once", lambda *_, **__: Verdict(ok=False, detail="it broke", died=True))
    trial = [f for f in checks.demo() if f.subject == "a round"]
    assert [(f.level, f.found) for f in trial] == [(Level.FAIL, "it broke")]


def test_a_missing_package_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the way to get it."""
    monkeypatch.setattr(checks, "PACKAGES", ("no-such-package",))
    assert list(checks.versions())[1:] == [Finding(Level.FAIL, "no-such-package", "not installed", checks.REINSTALL)]


def test_a_library_that_does_not_load_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """One finding, and no traceback."""
    monkeypatch.delitem(sys.modules, "dspark_local.backend.library", raising=False)
    monkeypatch.delattr("dspark_local.backend.library", raising=False)
    monkeypatch.setitem(sys.modules, "llama_cpp", None)
    (found,) = checks.llama()
    assert (found.level, found.subject) == (Level.FAIL, "llama.cpp")
    assert "does not load" in found.found


@pytest.mark.parametrize(
    ("cuda", "index"),
    [
        ((12, 4), "cu124"),
        ((12, 8), "cu125"),
        ((13, 1), "cu130"),
        ((14, 0), "cu132"),
        ((12, 0), "cu118"),
        ((10, 2), "vulkan"),
    ],
)
def test_a_driver_gets_the_newest_wheel_that_it_runs(cuda: tuple[int, int], index: str) -> None:
    """Of its own major version first: a driver runs what was built for an older CUDA, never for a newer one."""
    assert wheels.wheel(cuda) == index


def test_a_gpu_that_the_build_does_not_drive_is_told_with_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What NVIDIA's tool prints names the CUDA; the command pins the version that this package needs."""
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho '| NVIDIA-SMI 550.54  Driver Version: 550.54  CUDA Version: 12.4 |'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    found = checks._devices(gpu=False)
    assert found.level == Level.WARN
    assert "NVIDIA, CUDA 12.4" in found.found
    assert found.remedy.endswith(f"{wheels.pinned()} --extra-index-url {wheels.INDEX}/cu124")
    assert wheels.pinned().startswith("llama-cpp-python==")
    assert checks._devices(gpu=True).level == Level.OK


def test_features_are_those_that_are_on() -> None:
    """llama.cpp lists every feature with 0 or 1, after the name of the backend."""
    assert features("CPU : SSE3 = 1 | AVX = 0 | REPACK = 1 | ") == "SSE3 REPACK"
    assert features("") == "no special features"


def test_spinning_threads_are_warned_of() -> None:
    """Only where the build uses OpenMP and somebody set it higher than we do."""
    assert checks._spinning(True, {"GOMP_SPINCOUNT": str(SPINS)}).level == Level.OK
    assert checks._spinning(True, {"GOMP_SPINCOUNT": str(SPINS + 1)}).level == Level.WARN
    assert checks._spinning(True, {}).level == Level.WARN
    assert checks._spinning(False, {}).level == Level.OK


def _raise(*_: object) -> None:
    from dspark_local.errors import ModelNotFoundError  # noqa: PLC0415 - only here

    raise ModelNotFoundError("demo-q4_0.gguf is missing from this installation; reinstall dspark-local")
