"""What is kept between runs."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - pytest reads the annotation

import pytest

from dspark_local.scheduling.forecast import History
from dspark_local.scheduling.knowledge import CALIBRATIONS, COSTS, FORECASTS, Knowledge
from dspark_local.types import RoundTimes

KNOWN = History().features(0.5)


def recall(folder: Path, costs_of: str = "here", pair: str = "pair") -> Knowledge:
    return Knowledge.recall(folder, costs_of=costs_of, pair=pair, slots=1, gamma=7)


def taught(folder: Path) -> Knowledge:
    """Knowledge that has seen some slow rounds with confident drafts that all fail."""
    known = recall(folder)
    for _ in range(50):
        known.costs.learn(RoundTimes(draft=0.5, verify=2.0), rows=4, drafted=3, pending=0, depth=0)
        known.calibration.observe([0.9, 0.9, 0.9], 3, 0, temperature=0.0)
        known.forecast.learn(KNOWN, [0.9, 0.9, 0.9], 3, 0)
    known.save()
    return known


def test_what_was_learned_comes_back(tmp_path: Path) -> None:
    """Seconds and calibration, to the last digit that was kept."""
    known, again = taught(tmp_path), recall(tmp_path)
    assert again.measured
    assert again.costs.at(0).seconds == pytest.approx(known.costs.at(0).seconds)
    assert again.calibration.survival([0.9], 0.0) == pytest.approx(known.calibration.survival([0.9], 0.0))
    assert again.calibration.survival([0.9], 0.0)[0] < 0.5
    assert again.forecast.survival([KNOWN]) == known.forecast.survival([KNOWN])
    assert again.forecast.rate == known.forecast.rate


def test_another_machine_has_its_own_costs_and_the_same_calibration(tmp_path: Path) -> None:
    """Acceptance is the pair's, wherever it runs."""
    taught(tmp_path)
    elsewhere = recall(tmp_path, costs_of="there")
    assert not elsewhere.measured
    assert elsewhere.calibration.survival([0.9], 0.0)[0] < 0.5


@pytest.mark.parametrize("damage", [b"", b"{", b'{"version": 1, "entries": {"here": {"decode": 1}}}', b"\xff\x00"])
def test_a_damaged_file_is_ignored_and_written_anew(tmp_path: Path, damage: bytes) -> None:
    """All of them."""
    for name in (COSTS, CALIBRATIONS, FORECASTS):
        (tmp_path / name).write_bytes(damage)
    known = recall(tmp_path)
    assert not known.measured
    known.save()
    assert recall(tmp_path).measured
