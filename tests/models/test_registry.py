"""models.toml: every row is sound, the user's file is merged over it, and a wrong name meets the nearest ones."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import platformdirs
import pytest
from click.shell_completion import BashComplete

from dspark_local.cli.main import commands
from dspark_local.errors import ModelError, ModelNotFoundError, UsageError
from dspark_local.models import registry
from dspark_local.models.locations import Kind, Remote, resolve
from dspark_local.models.registry import Source

WANTED = {
    *("demo", "gemma-2-27b", "gemma-4-12b", "qwen2.5-72b", "qwen3-4b", "qwen3-8b", "qwen3-14b", "llama-3-8b"),
    *("llama-3-70b", "mistral-7b", "deepseek-v4-flash", "deepseek-v4-pro"),
}


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the user's registry belongs."""
    monkeypatch.setattr(platformdirs, "user_config_dir", lambda *_: str(tmp_path))
    return tmp_path / "models.toml"


def test_the_names_that_were_asked_for_are_there() -> None:
    """Each with a description, a licence, and what was run of it."""
    rows = registry.rows()
    assert set(rows) >= WANTED
    assert all(row.description and row.licence and row.checked for row in rows.values())


@pytest.mark.parametrize("name", registry.rows())
def test_every_row_resolves(name: str) -> None:
    """To a file of this package or of the hub, in each of its quants; or to one line that says what is lacking."""
    row = registry.row(name)
    if not row.target:
        with pytest.raises(ModelError, match=f"no GGUF of {re.escape(name)} is known; give one"):
            resolve(name)
        return
    assert resolve(name).target == resolve(f"{name}:{next(iter(row.target))}").target
    for quant, source in row.target.items():
        wanted = resolve(f"{name}:{quant.lower()}")
        assert wanted.name == name
        assert isinstance(wanted.target, Path if source.package else Remote)
        assert (wanted.drafter is None) == (not row.drafters)
        assert wanted.kind == (row.drafters[0].kind if row.drafters else Kind.LOOKUP)
        assert wanted.looks


def test_the_users_file_is_merged_key_by_key(mine: Path) -> None:
    """New rows, new quants of known rows, the user's before ours; and all else stays."""
    mine.write_text(
        '[house]\ndescription = "Ours"\nlicence = "ours"\nchecked = "all of it"\ntarget.F16 = { repo = "we/House" }\n'
        '[qwen3-8b]\ntarget.Q5_K_M = { repo = "Qwen/Qwen3-8B-GGUF" }\nsampling.temperature = 0.1\n'
    )
    rows = registry.rows()
    assert set(rows) >= WANTED | {"house"}
    assert resolve("house").target == Remote(Source(repo="we/House"), "F16")
    assert list(rows["qwen3-8b"].target) == ["Q5_K_M", "Q4_K_M", "Q8_0", "Q4_0"]
    assert (rows["qwen3-8b"].sampling.temperature, rows["qwen3-8b"].sampling.top_k) == (0.1, 20)
    mine.unlink()
    assert "house" not in registry.rows()


WRONG = {
    "no TOML": ("[x", "is no TOML"),
    "a field that does not exist": ('[demo]\nauthor = "me"', "demo.author: Extra inputs"),
    "a field that is missing": ('[mine]\ndescription = "d"', "mine.licence: Field required"),
    "no hub id": ('[demo]\ntarget.F16 = { repo = "nowhere" }', "demo.target.F16.repo: String should match"),
    "two places": (
        '[demo]\ntarget.F16 = { repo = "a/b", package = "c" }',
        "demo.target.F16: give one of package, path and repo",
    ),
    "no place": ("[demo]\ntarget.F16 = { }", "demo.target.F16: give one of package, path and repo"),
    "a sum of no file": ('[demo]\ntarget.F16 = { repo = "a/b", size = 1 }', "size and sha256 are those of a file"),
    "no sum": ('[demo]\ntarget.F16 = { repo = "a/b", file = "c", sha256 = "x" }', "sha256: String should match"),
    "no drafter": ('[demo]\ndrafters = [{ kind = "crystal", repo = "a/b" }]', "demo.drafters.0.kind: Input should be"),
    "a name with a slash": ('["a/b"]\ndescription = "d"', "a/b: String should match"),
    "no number": ("[demo]\ncontext = 0", "demo.context: Input should be greater than 0"),
    "no temperature": ("[demo]\nsampling = { temperature = -1 }", "demo.sampling.temperature"),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_fault_in_the_users_file_is_one_line(mine: Path, what: str) -> None:
    """Which file, where in it, and what."""
    text, says = WRONG[what]
    mine.write_text(text)
    with pytest.raises(UsageError, match=re.escape(says)) as raised:
        registry.rows()
    assert str(mine) in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        ("qwen3-8", "did you mean qwen3-8b or"),
        ("Qwen3-8B", "did you mean qwen3-8b or"),
        ("gema-2-27b", "did you mean gemma-2-27b"),
        ("dmeo:Q4_0", "did you mean demo"),
        ("xyzzy", "known names: demo, "),
        ("demo:Q9", "no quant Q9 of demo is known; known ones: Q4_0"),
    ],
)
def test_a_wrong_name_meets_the_nearest(typed: str, says: str) -> None:
    """In the one line that refuses it."""
    with pytest.raises(ModelNotFoundError, match=says):
        resolve(typed)


@pytest.mark.parametrize(
    ("drafter", "found"),
    [
        ("auto", (Remote, Kind.MODEL)),
        ("model", (Remote, Kind.MODEL)),
        ("none", (type(None), Kind.NONE)),
        ("lookup", (type(None), Kind.LOOKUP)),
        ("user/repo:Q8_0", (Remote, None)),
    ],
)
def test_what_a_drafter_may_be_called(drafter: str, found: tuple[type, Kind | None]) -> None:
    """Auto takes the row's best; the kind of a file is found out from the file."""
    wanted = resolve("gemma-2-27b", drafter)
    assert (type(wanted.drafter), wanted.kind) == found


def test_a_drafter_of_a_kind_that_is_not_known_is_refused() -> None:
    """With what to give instead."""
    with pytest.raises(ModelNotFoundError, match="no dspark drafter is known for gemma-2-27b; give one"):
        resolve("gemma-2-27b", "dspark")


def asking(words: str) -> dict[str, str]:
    """What click's script for bash sets."""
    return {
        "_DSPARK_LOCAL_COMPLETE": "bash_complete",
        "COMP_WORDS": words,
        "COMP_CWORD": str(words.count(" ")),
    }


def test_the_shell_completes_names_and_quants(mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As click's completion scripts ask for them; where no name fits, it completes files."""
    words = "dspark-local run qwen3"
    env = {**os.environ, **asking(words), "XDG_CONFIG_HOME": str(mine.parent)}
    command = [Path(sys.executable).with_name("dspark-local")]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.split() == ["plain,qwen3-4b", "plain,qwen3-8b", "plain,qwen3-14b"]

    def complete(words: str) -> list[str]:
        for name, value in asking(words).items():
            monkeypatch.setenv(name, value)
        return BashComplete(commands, {}, "dspark-local", "_DSPARK_LOCAL_COMPLETE").complete().split()

    assert complete(words) == done.stdout.split()
    assert complete("dspark-local chat qwen3-8b:q4") == ["plain,qwen3-8b:Q4_K_M", "plain,qwen3-8b:Q4_0"]
    assert complete("dspark-local models pull ./m") == ["file,./m"]


def test_a_path_of_any_characters_can_be_registered(mine: Path) -> None:
    """Backslashes, quotes, and characters that JSON would escape as halves, which no TOML reader takes."""
    target, drafter = mine.parent / 'C:\\models "new" 😀.gguf', mine.parent / "d.gguf"
    registry.add("own", target, drafter, description="mine 😀")
    assert registry.row("own").target["own"].path == target.resolve()
    assert registry.row("own").description == "mine 😀"
