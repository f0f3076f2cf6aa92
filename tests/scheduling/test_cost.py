"""The cost table: what it learns, what it shrugs off, what it keeps."""

from __future__ import annotations

import json
import math
from collections.abc import Callable  # noqa: TC003 - a dataclass reads the annotation
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path  # noqa: TC003 - pytest reads the annotation

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dspark_local.errors import UsageError
from dspark_local.scheduling import store
from dspark_local.scheduling.cost import CostTable
from dspark_local.scheduling.curve import Curve
from dspark_local.scheduling.measure import measure
from dspark_local.types import RoundTimes


@dataclass(frozen=True)
class Timings:
    """Seconds by rows, as a Timed has them."""

    decode: Callable[[int], float]
    draft: Callable[[int], float]
    inject: Callable[[int], float]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(1e-4, 10), min_size=1, max_size=20), st.data())
def test_a_curve_comes_to_what_it_is_shown(truth: list[float], data: st.DataObject) -> None:
    """From any start, timings of one row count bring its entry to within 1 %."""
    rows = data.draw(st.integers(1, len(truth)))
    curve = Curve([1.0] * len(truth))
    for _ in range(120):
        curve.learn(rows, truth[rows - 1])
    assert curve(rows) == pytest.approx(truth[rows - 1], rel=0.01)


def test_one_slow_round_moves_nothing() -> None:
    """A timing a hundred times too long, between usual ones, changes no entry."""
    curve = Curve([1.0] * 8)
    for _ in range(5):
        curve.learn(4, 1.0)
    before = curve.seconds.copy()
    curve.learn(4, 100.0)
    assert curve.seconds == pytest.approx(before)


def test_a_machine_that_slows_down_slows_every_entry() -> None:
    """What was not timed follows what was, less so from further away."""
    curve = Curve([1.0] * 8)
    for _ in range(100):
        curve.learn(1, 2.0)
    assert curve(1) == pytest.approx(2.0, rel=0.01)
    assert 1 < curve(8) <= curve(3) < curve(2) < 2


def test_beyond_its_end_a_curve_goes_on_in_proportion() -> None:
    """Twice the last row count takes twice its time; a timing out there teaches the end. No rows take no time."""
    curve = Curve([1.0, 2.0])
    assert curve(4) == 4.0
    assert curve(0) == 0.0
    for _ in range(100):
        curve.learn(4, 8.0)
    assert curve(2) == pytest.approx(4.0, rel=0.01)


def test_what_was_never_timed_is_hoped_to_be_cheaper() -> None:
    """Hope falls with every timing."""
    curve = Curve([1.0, 1.0], seen=0)
    hopes = []
    for _ in range(4):
        hopes.append(curve.hopeful[0] / curve(1))
        curve.learn(1, 1.0)
    assert all(a < b < 1 for a, b in pairwise(hopes))


def test_a_curve_takes_zero_seconds_and_equal_ones() -> None:
    """A fake backend's decodes take none; every entry stays a positive number."""
    curve = Curve([0.0] * 4)
    for _ in range(50):
        curve.learn(2, 0.0)
    assert all(0 < s < math.inf for s in curve.seconds)


@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), -1.0])
def test_a_curve_refuses_what_is_no_time(seconds: float) -> None:
    """NaN, infinity and negative seconds would poison every plan."""
    with pytest.raises(AssertionError):
        Curve([1.0, 1.0]).learn(1, seconds)


@pytest.mark.parametrize("plain", [float("nan"), 0.0, -1.0, float("inf")])
def test_a_guess_needs_a_positive_number(plain: float) -> None:
    """And says so."""
    with pytest.raises(UsageError, match="positive number"):
        CostTable.guess(plain)


def test_a_new_depth_starts_as_its_nearest_and_learns_for_itself() -> None:
    """Learning at 4k tokens leaves the start of a text alone."""
    table = CostTable.guess(1.0)
    shallow = table.at(0)(4)
    assert table.at(4096)(4) == shallow
    for _ in range(100):
        table.at(4096).learn(4, 3.0)
    assert table.at(4096)(4) == pytest.approx(3.0, rel=0.01)
    assert table.at(100)(4) == shallow
    assert table.at(3000)(4) == table.at(2100)(4)  # one doubling, one curve


def test_prefill_in_a_step_is_not_taken_for_the_cost_of_a_round() -> None:
    """A step that also prefilled teaches the draft, and leaves the seconds of decode and host alone."""
    table = CostTable.guess(1.0)
    host, four = table.host(7), table.at(0)(4)
    table.learn(RoundTimes(prefill=9.0, draft=0.1, verify=5.0, host=9.0), rows=4, drafted=3, pending=0, depth=0)
    assert table.host(7) == host
    assert table.at(0)(4) == four


def test_a_table_comes_back_as_it_was_kept(tmp_path: Path) -> None:
    """Beside those of others, and only for its own identity, slots and γ."""
    path = tmp_path / "deep" / "costs.json"
    table = CostTable.guess(0.5)
    table.at(5000).learn(3, 2.0)
    table.save(path, "mine")
    CostTable.guess(9.0).save(path, "another")
    back = CostTable.load(path, "mine")
    assert back is not None
    assert back.at(5000).seconds == pytest.approx(table.at(5000).seconds)
    assert back.at(5000).seen == table.at(5000).seen
    assert back.draft(3) == table.draft(3)
    assert CostTable.load(path, "nobody's") is None
    assert CostTable.load(path, "mine", slots=2) is None
    assert [p.name for p in path.parent.iterdir()] == ["costs.json"]


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        '{"version": 0, "entries": {}}',
        json.dumps({"version": store.VERSION, "entries": []}),
        json.dumps({"version": store.VERSION, "entries": {"mine": 3}}),
        json.dumps({"version": store.VERSION, "entries": {"mine": {"decode": {}}}}),
        json.dumps({"version": store.VERSION, "entries": {"mine": {"decode": {"x": 1}, "draft": 2}}}),
        json.dumps(
            {"version": store.VERSION, "entries": {"mine": {"decode": {"0": {"seconds": [None], "seen": [1]}}}}}
        ),
        '{"version": 1, "entries": {"mine": {"decode": {"0": {"seconds": [NaN], "seen": [1]}}}}}',
    ],
)
def test_a_stale_or_damaged_file_is_ignored_and_written_anew(tmp_path: Path, content: str) -> None:
    """Whatever it holds."""
    path = tmp_path / "costs.json"
    path.write_text(content)
    assert CostTable.load(path, "mine") is None
    CostTable.guess(0.5).save(path, "mine")
    assert CostTable.load(path, "mine") is not None


def test_a_file_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    """The table is measured again next time."""
    (tmp_path / "file").touch()
    CostTable.guess(0.5).save(tmp_path / "file" / "costs.json", "mine")


def test_measuring_settles_the_table_on_medians() -> None:
    """One disturbed decode in each three leaves the truth; what lies between is carried along."""
    truth = [1.0, 1.25, 1.56, 1.11, 1.56, 1.86, 2.16, 1.97]
    calls: list[int] = []

    def decode(rows: int) -> float:
        calls.append(rows)
        return truth[rows - 1] * (50 if calls.count(rows) == 2 else 1)

    shares: list[float] = []
    table = CostTable.guess(0.7)
    measure(table, Timings(decode, lambda n: 0.3 + 0.1 * n, lambda _: 0.04), gamma=7, progress=shares.append)
    assert table.at(0).seconds == pytest.approx(truth, rel=0.1)
    assert table.draft(7) == pytest.approx(1.0, rel=0.1)
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


def test_measuring_stops_when_both_limits_are_reached() -> None:
    """On a machine where a decode takes a second, twenty are run; a plain token and the usual widths come first."""
    now = 0.0
    calls: list[int] = []

    def slow(rows: int) -> float:
        nonlocal now
        now += 1.0
        calls.append(rows)
        return 1.0

    measure(CostTable.guess(0.7), Timings(slow, slow, slow), gamma=7, clock=lambda: now)
    assert len(calls) == 20
    assert calls[:4] == [1, 1, 4, 3]
