"""The command as a process: signals, pipes, no terminal, what is imported."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import ANSWER, start

PATIENCE = 120


def test_interrupting_ends_with_what_there_is() -> None:
    """Ctrl-C while it writes: the text so far, a statistics line, exit code 130, no traceback."""
    process = start("run", "demo", "Hi", answer="word " * 2000, seconds=0.02)
    assert process.stdout
    first = process.stdout.read(4)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert ("word " * 2000).startswith((first + out).decode().rstrip("\n"))
    assert b"interrupted" in err
    assert b"Traceback" not in err


def test_a_closed_pipe_is_no_traceback() -> None:
    """`| head` takes what it wants; the program stops writing and says nothing of it."""
    process = start("run", "demo", "Hi", answer="word " * 2000, seconds=0.002)
    assert process.stdout
    assert process.stdout.read(1) == b"w"
    process.stdout.close()
    process.wait(PATIENCE)
    assert process.returncode == 141
    assert process.stderr
    assert process.stderr.read() == b""


@pytest.mark.parametrize("stdin", [subprocess.DEVNULL, subprocess.PIPE])
def test_chat_without_a_terminal_answers_one_prompt(stdin: int) -> None:
    """Text to standard output, prompt and statistics to standard error, exit code 0; standard input is not needed."""
    process = start("chat", stdin=stdin)
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    assert out.decode() == ANSWER + "\n"
    assert b"What does random.choice do?" in err
    assert b"accepted length" in err


def test_output_survives_a_terminal_without_utf8() -> None:
    """What the encoding cannot say becomes a question mark."""
    process = start("run", "demo", "Hi", answer="naïve ✓", env={**os.environ, "PYTHONIOENCODING": "ascii"})
    out, _ = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out) == (0, b"na?ve ?\n")


@pytest.mark.parametrize(
    "program",
    [
        "import dspark_local",
        "import dspark_local.cli.main, dspark_local.cli.chat, dspark_local.cli.run, dspark_local.cli.doctor",
    ],
)
def test_headless_imports_load_neither_textual_nor_llama(program: str, tmp_path: Path) -> None:
    """Nor does the command line, before it opens the chat."""
    check = f"{program}; import sys; print([m for m in ('textual', 'llama_cpp', 'safetensors') if m in sys.modules])"
    command = [sys.executable, "-c", check]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=PATIENCE)
    assert done.stdout == "[]\n"


def test_the_installed_command_is_this_one(tmp_path: Path) -> None:
    """The entry point reaches main, wherever it is called from."""
    command = [Path(sys.executable).with_name("dspark-local"), "run", "nope", "Hi"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert done.returncode == 2
    assert done.stderr.startswith("dspark-local: no model named 'nope'")
