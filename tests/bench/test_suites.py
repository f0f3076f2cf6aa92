"""A pair is judged task by task: counts by hand, on a runtime whose drafter errs where we say."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from dspark_local.bench.suites import Task, evaluate
from dspark_local.bench.suites_report import data, markdown
from dspark_local.chat import Message
from dspark_local.cli.main import main
from dspark_local.errors import UsageError
from dspark_local.testing import scripted_runtime

if TYPE_CHECKING:
    from pathlib import Path

ANSWER = "Every good boy does fine, as they say."
SUITES = {"one": [(Message("user", "a"),), (Message("user", "bc"),)], "two": [(Message("user", "d"),)]}


def judged(**options: object) -> list[Task]:
    with scripted_runtime(ANSWER, **options) as runtime:  # type: ignore[arg-type]
        before = runtime.policy
        tasks = evaluate(runtime, SUITES, temperatures=(0.0, 1.0), max_tokens=64)
        assert runtime.policy is before
        return tasks


def test_a_drafter_that_never_errs() -> None:
    """Each block whole: γ + 1 tokens a round, but for the end."""
    tasks = judged(wrong=lambda _length: False)
    assert [(t.name, t.temperature) for t in tasks] == [("one", 0), ("one", 1), ("two", 0), ("two", 1)]
    gamma = tasks[0].gamma
    tokens = len(ANSWER) + 1
    for task in tasks:
        assert task.rounds == len(task.answers) * -(-tokens // (gamma + 1))
        assert gamma < task.accepted_length <= gamma + 1
        assert task.by_position[0] == (1.0, 1.0)
        assert len(task.speeds) == len(task.answers)
        assert task.speed > 0


def test_a_drafter_that_always_errs() -> None:
    """A token a round, and no position beyond the first is reached."""
    for task in judged(wrong=lambda _length: True):
        assert task.accepted_length == 1
        assert task.by_position == [(0.0, 0.0)] * task.gamma


def test_shares_are_those_of_the_rounds() -> None:
    """Accepted length is 1 + the sum of the shares, up to rounds that the end of an answer cuts."""
    for task in judged(wrong=lambda length: length % 4 == 0):
        expected = 1 + sum(share for _, share in task.by_position)
        assert task.accepted_length == pytest.approx(expected, abs=0.35)
        for (given, share), (_, before) in zip(task.by_position[1:], task.by_position, strict=False):
            assert share <= given
            assert share <= before + 0.2


def test_texts_that_loop_do_not_count() -> None:
    with scripted_runtime("ab" * 30) as runtime:
        (task,) = evaluate(runtime, {"loop": SUITES["two"]}, temperatures=(0.0,), max_tokens=64)
    assert task.counted == []
    assert task.accepted_length != task.accepted_length
    assert "1 of 1 answers loop" in markdown([task])
    assert json.loads(json.dumps(data([task])))[0]["accepted_length"] is None


def test_without_a_drafter_there_is_nothing_to_judge() -> None:
    with scripted_runtime(drafter=False) as runtime, pytest.raises(UsageError, match="without a drafter"):
        evaluate(runtime, SUITES, temperatures=(0.0,), max_tokens=8)


def test_the_embedded_pair_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A table, a plot, and the same figures as JSON; one suite a task."""
    (tmp_path / "names.jsonl").write_text('{"prompt": "What does zip do?"}\n{"turns": ["Explain str.join."]}\n')
    (tmp_path / "code.txt").write_text("Show me how to call os.path.join\n")
    found = tmp_path / "found.json"
    suites = ["--suite", str(tmp_path / "names.jsonl"), "--suite", str(tmp_path / "code.txt")]
    options = ["--max-tokens", "48", "--threads", "1", "--temperature", "0", "--no-speed", "--json", str(found)]
    assert main(["eval", "demo", *suites, *options]) == 0
    said = capsys.readouterr().out
    assert "| mean " in said
    assert "AUROC" in said
    tasks = json.loads(found.read_text())["tasks"]
    assert [task["task"] for task in tasks] == ["names", "code"]
    for task in tasks:
        if task["counted"]:
            assert f"{task['accepted_length']:.2f}" in said
            assert 1 < task["accepted_length"] < 8
