"""What a user sees when something is wrong: one line, and an exit code."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

from dspark_local.errors import ContextError, OutOfMemoryError

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import Command

WRONG = [
    (["run"], "Missing argument"),
    (["run", "demo"], "Missing argument 'PROMPT'"),
    (["sing"], "No such command 'sing'"),
    (["run", "demo", "Hi", "--loud"], "No such option"),
    (["run", "demo", "Hi", "--seed", "x"], "not a valid integer"),
    (["run", "demo", "Hi", "--seed", "-1"], "seed must be"),
    (["run", "demo", "Hi", "--temperature", "-1"], "temperature must be"),
    (["run", "demo", "Hi", "--temperature", "nan"], "temperature must be"),
    (["run", "demo", "Hi", "--top-k", "-1"], "top-k must be"),
    (["run", "demo", "Hi", "--top-p", "0"], "top-p must be"),
    (["run", "demo", "Hi", "--min-p", "2"], "min-p must be"),
    (["run", "demo", "Hi", "--typical-p", "0"], "typical-p must be"),
    (["run", "demo", "Hi", "--repeat-penalty", "0"], "repeat-penalty must be"),
    (["run", "demo", "Hi", "--dry-base", "0"], "dry-base must be"),
    (["run", "demo", "Hi", "--logit-bias", "cat"], "not TOKEN+BIAS"),
    (["run", "demo", "Hi", "--logit-bias", "1+2", "--logit-bias", "1-inf"], "twice"),
    (["run", "demo", "Hi", "--grammar", "missing.gbnf"], "missing.gbnf: No such file"),
    (["run", "demo", "Hi", "--logprobs", "2"], "--json"),
    (["run", "demo", "Hi", "--json", "--logprobs", "-1"], "logprobs must be"),
    (["run", "demo", "Hi", "--max-tokens", "0"], "--max-tokens"),
    (["run", "demo", "Hi", "--policy", "fixed:-1"], "no policy is called"),
    (["run", "demo", "Hi", "--threads", "0"], "threads must be"),
    (["run", "demo", "Hi", "--ctx-size", "1"], "context"),
    (["run", "demo", "Hi", "--no-draft", "--drafter", "d.gguf"], "contradict"),
    (["run", "demo", "Hi", "--raw", "--system", "Be brief."], "--raw"),
    (["run", "demo", "Hi", "--drafter", "missing.gguf"], "no such file: missing.gguf"),
    (["run", "dmo", "Hi"], "did you mean demo?"),
    (["run", "missing.gguf", "Hi"], "no such file: missing.gguf"),
    (["run", "/", "Hi"], "is a folder"),
    (["chat", "missing.gguf"], "no such file: missing.gguf"),
    (["doctor", "more"], "unexpected extra argument"),
]


@pytest.mark.parametrize(("arguments", "says"), WRONG, ids=[" ".join(a) for a, _ in WRONG])
def test_a_users_mistake_is_one_line_and_exit_code_2(dspark: Command, arguments: list[str], says: str) -> None:
    """On standard error, with the program's name, without a usage dump."""
    done = dspark(*arguments)
    assert done.code == 2
    assert done.out == ""
    *before, last = done.err.splitlines()
    assert len(before) <= (arguments[0] == "chat")  # which says first that there is no terminal
    assert last.startswith("dspark-local: ")
    assert says in last


def test_grammar_and_schema_contradict_each_other(dspark: Command, tmp_path: Path) -> None:
    """And a file of bytes that are no text is told from one that is missing."""
    (given := tmp_path / "g").write_text("{}")
    done = dspark("run", "demo", "Hi", "--grammar", str(given), "--json-schema", str(given))
    assert (done.code, "contradict" in done.err) == (2, True)
    given.write_bytes(b"\xff")
    assert "not UTF-8 text" in dspark("run", "demo", "Hi", "--grammar", str(given)).err


@pytest.mark.parametrize(
    ("option", "text", "says"),
    [
        ("--grammar", 'root ::= "a', "grammar, line 1"),
        ("--grammar", r"root ::= [^\x01-\U0010FFFF]", "no text fits"),
        ("--json-schema", "", "not JSON"),
        ("--json-schema", '{"type": "string", "pattern": "a"}', "pattern cannot be enforced"),
    ],
)
@pytest.mark.usefixtures("loads")
def test_a_faulty_grammar_is_one_line(dspark: Command, tmp_path: Path, option: str, text: str, says: str) -> None:
    """Nothing of llama.cpp's own words, and exit code 2."""
    (given := tmp_path / "g").write_text(text)
    done = dspark("run", "demo", "Hi", option, str(given))
    assert (done.code, done.out) == (2, "")
    assert done.err.count("\n") == 1
    assert says in done.err


@pytest.mark.parametrize("error", [ContextError("the prompt is\ntoo long"), OutOfMemoryError("no room")])
def test_every_error_of_the_library_is_one_line(
    dspark: Command, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """Line breaks in a message do not make it two."""

    def load(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("dspark_local.cli.options.load", load)
    done = dspark("run", "demo", "Hi")
    assert done.code == 2
    assert done.err == f"dspark-local: {' '.join(str(error).split())}\n"


def test_our_own_mistake_is_one_line_and_exit_code_1(dspark: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the exception's type and message; the traceback only on request."""

    def load(*_: object, **__: object) -> None:
        raise RuntimeError("surprise")

    monkeypatch.setattr("dspark_local.cli.options.load", load)
    monkeypatch.delenv("DSPARK_DEBUG", raising=False)
    done = dspark("run", "demo", "Hi")
    assert done.code == 1
    assert done.err.count("\n") == 1
    assert "RuntimeError: surprise" in done.err
    assert "DSPARK_DEBUG=1" in done.err
    monkeypatch.setenv("DSPARK_DEBUG", "1")
    assert "Traceback" in dspark("run", "demo", "Hi").err


def test_warnings_of_the_library_are_lines_of_ours(
    dspark: Command, monkeypatch: pytest.MonkeyPatch, loads: list[object]
) -> None:
    """llama.cpp's own chatter stays away."""
    del loads
    from dspark_local.cli import options  # noqa: PLC0415 - after the fixture has replaced its loader

    scripted = options.load

    def load(model: str, **given: object) -> object:
        logging.getLogger("dspark_local.loading").warning("slower than it could be")
        logging.getLogger("dspark_local.llama").warning("chatter")
        return scripted(model, **given)

    monkeypatch.setattr(options, "load", load)
    done = dspark("run", "demo", "Hi")
    assert "dspark-local: slower than it could be\n" in done.err
    assert "chatter" not in done.err


def test_help_and_version_need_no_command(dspark: Command) -> None:
    """Bare, --help and --version say something and exit with 0."""
    assert dspark().out == dspark("--help").out
    assert "doctor" in dspark("-h").out
    assert dspark("--version").out.startswith("dspark-local, version ")
