"""`bench` and `tune` on the demo pair."""

from __future__ import annotations

import json
from pathlib import Path  # noqa: TC003 - pytest reads the annotation

from tests.cli.conftest import Command  # noqa: TC001 - as above


def test_bench_prints_tables_and_writes_files(dspark: Command, tmp_path: Path) -> None:
    """The same tables in Markdown, every answer in JSON, and machine, build and commit in both."""
    (tmp_path / "p.txt").write_text("What does math.tan do?\n")
    files = ["--markdown", str(tmp_path / "b.md"), "--json", str(tmp_path / "b.json")]
    options = ["--prompts", str(tmp_path / "p.txt"), "--trials", "1", "--max-tokens", "12", "--threads", "1"]
    done = dspark("bench", "demo", *options, "--policies", "fixed:2 auto oracle", *files)
    assert done.code == 0
    assert "auto: " in done.out.splitlines()[-1]
    assert done.out in (tmp_path / "b.md").read_text()
    said = json.loads((tmp_path / "b.json").read_text())
    assert {a["policy"] for a in said["answers"]} == {"plain", "fixed:2", "auto", "oracle"}
    assert any("llama-cpp-python" in line for line in said["machine"])


def test_planning_is_labelled(dspark: Command) -> None:
    """Synthetic acceptance is no measurement, and the output says so."""
    done = dspark("bench", "demo", "--accept-rates", "0.9,0.8", "--threads", "1")
    assert done.code == 0
    assert "Planned, not measured" in done.out
    assert dspark("bench", "demo", "--accept-rates", "7", "--threads", "1").code == 2


def test_what_cannot_be_compared_is_one_line(dspark: Command) -> None:
    """With exit code 2."""
    for wrong in (["--drafter", "none"], ["--policies", "best"], ["--prompts", "nowhere.txt"]):
        done = dspark("bench", "demo", "--trials", "1", "--max-tokens", "4", "--threads", "1", *wrong)
        assert done.code == 2
        assert done.err.count("\n") == 1


def test_tune_says_what_to_expect(dspark: Command, tmp_path: Path) -> None:
    """Curves, reliability at every temperature, speeds, and one sentence at the end."""
    (tmp_path / "p.txt").write_text("What does math.tan do?\nDescribe signal.signal.\n")
    done = dspark("tune", "demo", "--prompts", str(tmp_path / "p.txt"), "--max-tokens", "24", "--threads", "1")
    assert done.code == 0
    assert all(f"Survival at T = {t}" in done.out for t in ("0,", "0.7,", "1,"))
    assert done.out.splitlines()[-1].startswith("On this machine")
