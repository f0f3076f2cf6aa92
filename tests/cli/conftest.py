"""The command line, in this process on a scripted runtime, or as a real process."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from dspark_local.cli.main import main
from dspark_local.testing import scripted_runtime

if TYPE_CHECKING:
    from dspark_local.runtime import Runtime

ANSWER = "A scripted answer."

# Stands in for the loader in a child process; what follows it is the command line's own entry.
SCRIPTED = """
import sys
import dspark_local.cli.options as options
from dspark_local.testing import scripted_runtime
options.load = lambda *_, **__: scripted_runtime({answer!r}, seconds={seconds})
from dspark_local.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


@dataclass
class Outcome:
    code: int
    out: str
    err: str


Command = Callable[..., Outcome]


@dataclass
class Call:
    """What the command line asked the loader for."""

    model: str
    options: dict[str, Any]


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[Call]:
    """Calls of the loader, which gives a scripted runtime."""
    calls: list[Call] = []

    def load(model: str, **options: Any) -> Runtime:
        calls.append(Call(model, options))
        return scripted_runtime(ANSWER)

    monkeypatch.setattr("dspark_local.cli.options.load", load)
    return calls


@pytest.fixture
def dspark(capsys: pytest.CaptureFixture[str]) -> Command:
    """Run the command line in this process."""

    def run(*arguments: str) -> Outcome:
        code = main(arguments)
        said = capsys.readouterr()
        return Outcome(code, said.out, said.err)

    return run


def start(*arguments: str, answer: str = ANSWER, seconds: float = 0.0, **options: Any) -> subprocess.Popen[bytes]:
    """The command line as a process on a scripted runtime, away from the checkout, as users have it."""
    program = SCRIPTED.format(answer=answer, seconds=seconds)
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(
        [sys.executable, "-c", program, *arguments], cwd=tempfile.gettempdir(), bufsize=0, **{**pipes, **options}
    )
