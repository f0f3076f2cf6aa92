"""Other programs on our cores: how many are left, and that a decode takes no more than that."""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspark_local.backend import model, neighbours
from dspark_local.backend.base import Shape, Span
from dspark_local.backend.library import api
from dspark_local.backend.llama import LlamaTarget
from dspark_local.backend.neighbours import WINDOW, Neighbours, Reading, cores, left
from tests.formats import tiny

if TYPE_CHECKING:
    from pathlib import Path

SECONDS = st.floats(0, 1e3)


@pytest.mark.parametrize(
    ("others", "expected"),
    [(0.0, 4), (0.4, 4), (0.6, 3), (1.0, 3), (2.2, 2), (4.0, 1), (9.0, 1)],
)
def test_what_others_use_of_four_cores_is_not_left(others: float, expected: int) -> None:
    before = Reading(10.0, 100.0, 50.0)
    now = Reading(12.0, 100.0 + 2 * (others + 3.0), 50.0 + 2 * 3.0)  # ourselves three cores
    assert left(before, now, 4) == expected


@given(clock=st.floats(0.1, 1e3), spent=SECONDS, own=SECONDS, n=st.integers(1, 256))
def test_between_one_core_and_all_are_left(clock: float, spent: float, own: float, n: int) -> None:
    """Even where the system's counters contradict one another."""
    assert 1 <= left(Reading(0, 0, 0), Reading(clock, spent, own), n) <= n


def test_programs_that_fill_all_cores_leave_one() -> None:
    watched = Neighbours()
    count = "n = 0\nwhile True: n += 1"
    with ExitStack() as running:
        for _ in range(2 * len(cores())):
            process = running.enter_context(subprocess.Popen([sys.executable, "-c", count]))
            running.callback(process.kill)
        time.sleep(WINDOW)
        for _ in range(6):  # as decodes would, one after the other
            watched.free()
            time.sleep(WINDOW / 2)
            watched.decoded()
        assert watched.free() == 1


def test_what_others_did_while_nothing_was_decoded_is_past(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was left beside the decodes before still counts, and what others do beside one, however long it takes."""
    n = len(cores())
    taken = iter([Reading(0, 0, 0), Reading(10, 10 * n, 0), Reading(20, 20 * n, 0), Reading(30, 20 * n, 0)])
    monkeypatch.setattr(neighbours, "_read", lambda _allowed: next(taken))
    now = 10.0
    monkeypatch.setattr(time, "perf_counter", lambda: now)
    watched = Neighbours()
    assert watched.free() == n
    now = 20.0
    watched.decoded()
    assert watched.free() == 1
    now = 30.0
    assert watched.free() == 1


@pytest.mark.parametrize(("polite", "expected"), [(True, [3, 1, 2]), (False, [3, 3, 3])])
def test_a_polite_decode_takes_the_threads_that_others_leave(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *, polite: bool, expected: list[int]
) -> None:
    shape = Shape(n_ctx=256, threads=3, polite=polite)
    target = LlamaTarget(model.Model(tiny.target().write(tmp_path / "t.gguf")), shape)
    used = []
    for start, free in enumerate((8, 1, 2)):
        monkeypatch.setattr(model.NEIGHBOURS, "free", lambda free=free: free)
        target.decode([Span(0, start, [1])])
        used.append(api.llama_n_threads(target.context.pointer))
    target.close()
    assert used == expected
