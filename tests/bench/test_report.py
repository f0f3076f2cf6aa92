"""What tables say of answers."""

from __future__ import annotations

import pytest

from dspark_local import Finish, FinishReason, Round, RoundTimes, Stats
from dspark_local.bench import report
from dspark_local.bench.answers import Answer
from dspark_local.bench.prompts import Prompt
from dspark_local.bench.tables import table
from dspark_local.bench.trials import Trials

TEXT = tuple(range(40))
LOOP = tuple(range(8)) * 5


def answer(tokens: tuple[int, ...], seconds: float, rounds: int = 10) -> Answer:
    times = RoundTimes(draft=0.2 * seconds, verify=0.7 * seconds)
    each = len(tokens) // rounds
    stats = Stats(rounds=rounds, predicted_n=len(tokens), times=times)
    done = tuple(Round(tokens[i * each : (i + 1) * each], draft=(0,) * (each - 1)) for i in range(rounds))
    return Answer(Finish(FinishReason.LENGTH, "", tokens, stats), done, seconds)


TRIALS = Trials(
    (Prompt(prompt="a", kind="even"), Prompt(prompt="b", kind="loops")),
    {
        "plain": [[answer(TEXT, 4.0, 40)], [answer(LOOP, 4.0, 40)]],
        "fixed:3": [[answer(TEXT, 2.0)], [answer(LOOP, 0.1)]],
        "fixed:7": [[answer((*TEXT[:-1], 99), 8.0)], [answer(LOOP, 0.1)]],
    },
    {"plain": [0.1, 0.1], "fixed:3": [0.05, 0.01], "fixed:7": [0.2, float("nan")]},
)


def test_answers_that_loop_are_not_counted() -> None:
    """Not in the speed, by the clock or by replay, and the report says how many there were."""
    assert TRIALS.looping == [1]
    assert TRIALS.speed("fixed:3") == pytest.approx(2.0)
    assert TRIALS.replayed_speed("fixed:3") == pytest.approx(2.0)
    assert "1 of 2 prompts count" in report.markdown(TRIALS)
    assert "| loops" not in report.markdown(TRIALS)


def test_a_differing_answer_is_a_fork() -> None:
    """Forks are counted over all prompts."""
    assert (TRIALS.forks("fixed:3"), TRIALS.forks("fixed:7")) == (0, 1)


def test_what_no_decode_took_is_the_hosts() -> None:
    """A tenth of the two seconds was spent outside decodes, in ten rounds of four tokens."""
    row = next(line for line in report._rounds(TRIALS).splitlines() if line.startswith("| fixed:3"))
    assert [cell.strip() for cell in row.strip("|").split("|")] == [
        "fixed:3", "20.0", "4.00", "0.0", "", "40.0", "0.0", "140.0", "20.0", "10.0", "0 %", "0",
    ]  # fmt: skip


def test_columns_align() -> None:
    """Every line of a table is as long as the next."""
    assert len({len(line) for line in table(("a", "b"), [("long cell", "1"), ("x", "1000")]).splitlines()}) == 1
