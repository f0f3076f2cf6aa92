"""What `make bench` says about its runs."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from dspark_local import RoundTimes

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))  # scripts, not a package

from measure import Run, geometric_mean, middle
from scaled import Result, by_gamma, by_prompt

from dspark_local.bench.tables import table

TEXT = tuple(range(40))
LOOP = tuple(range(8)) * 5


def _run(tokens: tuple[int, ...], seconds: float, rounds: int = 10) -> Run:
    return Run(tokens, seconds, rounds, RoundTimes(draft=0.2 * seconds, verify=0.7 * seconds))


RESULT = Result({
    ("even", 0): _run(TEXT, 4.0, 40),
    ("even", 3): _run(TEXT, 2.0),
    ("even", 7): _run((*TEXT[:-1], 99), 8.0),
    ("loops", 0): _run(LOOP, 4.0, 40),
    ("loops", 3): _run(LOOP, 0.1),
    ("loops", 7): _run(LOOP, 0.1),
})  # fmt: skip


def test_answers_that_loop_are_shown_and_not_counted() -> None:
    """The mean and the best γ are those of the other prompts."""
    assert RESULT.sound == ["even"]
    assert RESULT.mean(3) == pytest.approx(2.0)
    assert RESULT.best == 3
    assert "loops (loops, not counted)" in by_prompt(RESULT, 3)


def test_a_differing_answer_is_a_fork() -> None:
    """Forks are counted over all prompts."""
    assert (RESULT.forks(3), RESULT.forks(7)) == (0, 1)


def test_what_no_decode_took_is_the_hosts() -> None:
    """A tenth of the two seconds was spent outside decodes, in ten rounds of four tokens."""
    row = by_gamma(RESULT).splitlines()[3]
    assert [cell.strip() for cell in row.strip("|").split("|")] == [
        "3", "2.00x", "4.00", "40.0", "140.0", "0.0", "20.0", "10.0", "0",
    ]  # fmt: skip


def test_the_middle_run_is_the_median() -> None:
    """Of an even number it is the slower of the two in the middle."""
    runs = [_run(TEXT, seconds) for seconds in (1.0, 4.0, 2.0, 3.0)]
    assert middle(runs).seconds == 3.0
    assert middle(runs[:3]).seconds == 2.0


def test_the_mean_of_ratios_is_geometric() -> None:
    """Twice as fast and half as fast cancel out; of nothing there is no mean."""
    assert geometric_mean([2.0, 0.5]) == pytest.approx(1.0)
    assert geometric_mean([]) != geometric_mean([])


def test_columns_align() -> None:
    """Every line of a table is as long as the next."""
    assert len({len(line) for line in table(("a", "b"), [("long cell", "1"), ("x", "1000")]).splitlines()}) == 1
