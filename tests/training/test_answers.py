"""Answers of the target are asked once, in the order of the prompts, and survive a kill."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from dspark_local.chat import Message
from dspark_local.errors import TrainingError, UsageError
from dspark_local.testing import scripted_runtime
from dspark_local.training.answers import Answers, Asking, is_held_out, regenerate
from tests.training.limits import file_size

if TYPE_CHECKING:
    from pathlib import Path

    from dspark_local.training.text import Text

PROMPTS = [(Message("user", f"question {i}"),) for i in range(30)]


def ask(path: Path, n: int = len(PROMPTS)) -> list[Text]:
    with scripted_runtime("Some answer.", drafter=False, slots=4) as runtime:
        kept = Answers(path, {"of": "this"})
        return regenerate(runtime, PROMPTS[:n], kept, Asking(), progress=lambda *_: None)


def test_answers_are_kept_in_order_and_not_asked_again(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    texts = ask(path)
    assert [bytes(t.answer[:-1].tolist()) for t in texts] == [b"Some answer."] * len(PROMPTS)
    assert [b"question %d" % i in bytes(t.prompt.tolist()) for i, t in enumerate(texts)] == [True] * len(PROMPTS)
    written = path.read_bytes()
    assert ask(path) == texts
    assert path.read_bytes() == written


@pytest.mark.parametrize("cut", [1, 7, 40, 700])
def test_a_kill_costs_the_line_that_was_cut(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "a.jsonl"
    texts, written = ask(path), path.read_bytes()
    path.write_bytes(written[:-cut])
    assert ask(path) == texts
    assert path.read_bytes() == written


def test_answers_of_something_else_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    ask(path)
    with pytest.raises(UsageError, match="another target, other prompts"):
        Answers(path, {"of": "that"}).read()
    path.write_text("no JSON\n")
    with pytest.raises(UsageError, match="damaged"):
        Answers(path, {"of": "this"}).read()


def test_a_third_is_sampled_and_the_judges_are_greedy() -> None:
    asking = Asking()
    drawn = [asking.temperature(i) for i in range(3000)]
    held_out = [i for i in range(3000) if is_held_out(i)]
    assert len(held_out) == 64
    assert 0.31 < sum(drawn) / 3000 < 0.34
    assert not any(drawn[i] for i in held_out)
    assert Asking(sampled=0).temperature(2) == 0
    assert Asking(sampled=1).temperature(3) == 1


def test_too_few_prompts_and_a_full_disk_are_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="at least 4"):
        ask(tmp_path / "a.jsonl", 3)
    with file_size(600), pytest.raises(TrainingError, match=r"b\.jsonl cannot be written"):
        ask(tmp_path / "b.jsonl")
