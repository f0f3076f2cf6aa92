"""Prompt files as DeepSpec has them, with what a measurement wants, and plain; what is wrong is told in one line."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from dspark_local.bench.prompts import KINDS, Prompt, built_in, read
from dspark_local.chat import Message
from dspark_local.errors import UsageError
from dspark_local.training.prompts import digest, read_all

if TYPE_CHECKING:
    from pathlib import Path

ASKED = (Message("user", "Why?"),)


@pytest.mark.parametrize(
    "entry",
    [
        {"messages": [{"role": "user", "content": "Why?"}]},
        {"id": "x", "conversations": [{"from": "human", "value": "Why?"}, {"from": "gpt", "value": "Because."}]},
        {"conversations": [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "Because."}]},
        {"turns": ["Why?", "And then?"], "category": "writing"},
        {"prompt": "Why?"},
        {"question": "Why?", "answer": "42"},
    ],
)
def test_every_layout_asks_the_same(tmp_path: Path, entry: dict[str, object]) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text(json.dumps(entry) + "\n\n")
    assert read(path) == [Prompt(prompt="Why?")]


def test_a_conversation_goes_up_to_its_last_question(tmp_path: Path) -> None:
    """What was said before stays; the last answer is the target's to give."""
    said = [("system", "Be brief."), ("user", "Hi"), ("assistant", "Hello"), ("user", "Why?"), ("assistant", "So.")]
    path = tmp_path / "p.jsonl"
    path.write_text(json.dumps({"messages": [{"role": r, "content": c} for r, c in said]}))
    (prompt,) = read(path)
    assert prompt.messages == [Message(r, c) for r, c in said[:4]]


def test_a_measurement_says_kind_and_temperature(tmp_path: Path) -> None:
    """Beside any of the layouts; what they cannot be is told with its line."""
    path = tmp_path / "p.jsonl"
    path.write_text('{"turns": ["Why?"], "kind": "chat", "temperature": 0.5, "raw": true}\n')
    assert read(path) == [Prompt(prompt="Why?", kind="chat", temperature=0.5, raw=True)]
    path.write_text('{"prompt": "Why?"}\n{"prompt": "Why?", "temperature": -1}\n')
    with pytest.raises(UsageError, match="line 2: temperature"):
        read(path)


def test_built_in_prompts_are_of_every_kind() -> None:
    """And at least two each: half fit a calibration, half judge it."""
    kinds = [prompt.kind for prompt in built_in()]
    assert set(kinds) == set(KINDS)
    assert min(map(kinds.count, KINDS)) >= 2


def test_plain_lines_are_prompts_and_each_is_asked_once(tmp_path: Path) -> None:
    path, again = tmp_path / "p.txt", tmp_path / "again.txt"
    path.write_text("Why?\n\n  And how? \nWhy?\n")
    again.write_text("Why?\n")
    asked = read_all([path, again])
    assert asked == [ASKED, (Message("user", "And how?"),)]
    assert digest(asked) != digest(asked[:1])


@pytest.mark.parametrize(
    "line",
    ["{", "[]", "3", "{}", '{"messages": []}', '{"messages": [{"role": "user"}]}', '{"prompt": 3}', '{"turns": []}',
     '{"messages": [{"role": "assistant", "content": "x"}]}', '{"messages": [{"role": "alien", "content": "x"}]}',
     '{"prompt": " "}'],
)  # fmt: skip
def test_a_malformed_line_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text('{"prompt": "Why?"}\n' + line + "\n")
    with pytest.raises(UsageError, match=r"p\.jsonl, line 2: no question to ask"):
        read(path)


def test_an_empty_or_missing_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(UsageError, match="holds no prompt"):
        read(tmp_path / "empty.jsonl")
    with pytest.raises(UsageError, match="No such file"):
        read(tmp_path / "none.jsonl")
