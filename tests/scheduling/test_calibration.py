"""Confidence that means what it says, and the measures of it."""

from __future__ import annotations

import math
from pathlib import Path  # noqa: TC003 - pytest reads the annotation

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspark_local.errors import BackendError
from dspark_local.scheduling.calibration import Calibration
from dspark_local.scheduling.reliability import by_position, reliability

Shares = npt.NDArray[np.float64]


def blocks(n: int, seed: int, *, scale: float, shift: float) -> tuple[Shares, npt.NDArray[np.int64]]:
    """Confidences [n, 7] whose logits must be scaled and shifted to be right, and how many were accepted."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(1.5, 1.2, size=(n, 7)) - 0.1 * np.arange(7)
    right = rng.random((n, 7)) < 1 / (1 + np.exp(-(scale * logits + shift)))
    return 1 / (1 + np.exp(-logits)), right.cumprod(axis=1).sum(axis=1)


def every(calibration: Calibration, said: Shares, temperature: float = 0.0) -> Shares:
    """Survival [n, γ] of all blocks."""
    return np.array([calibration.survival(row, temperature) for row in said.tolist()])


@pytest.mark.parametrize(("scale", "shift"), [(0.5, -0.3), (1.8, 0.4), (1.0, -0.8)])
def test_fitted_survival_is_calibrated_at_every_position(scale: float, shift: float) -> None:
    """ECE at most 2.5 % over 20,000 blocks that were not used for fitting, where it was far more; ranks stay."""
    said, accepted = blocks(4000, 1, scale=scale, shift=shift)
    calibration = Calibration(7)
    calibration.fit(said, np.full(4000, 7), accepted, 0.0)
    said, accepted = blocks(20_000, 2, scale=scale, shift=shift)
    whole = np.full(20_000, 7)
    before = by_position(said.cumprod(axis=1), whole, accepted)
    after = by_position(every(calibration, said), whole, accepted)
    assert max(r.ece for r in before) > 0.05
    assert max(r.ece for r in after) <= 0.025
    assert all(b.brier < a.brier for a, b in zip(before, after, strict=True))
    assert after[0].auroc == pytest.approx(before[0].auroc)


def test_learning_round_by_round_comes_to_the_same() -> None:
    """3,000 rounds, each verified as far as a scheduler that trusts the confidences would: ECE at most 3.5 %."""
    said, accepted = blocks(3000, 3, scale=0.5, shift=-0.3)
    calibration = Calibration(7)
    for confidences, right in zip(said.tolist(), accepted.tolist(), strict=True):
        admitted = sum(a > 0.3 for a in calibration.survival(confidences, 0.0))
        calibration.observe(confidences, admitted, min(admitted, right), 0.0)
    said, accepted = blocks(20_000, 4, scale=0.5, shift=-0.3)
    after = by_position(every(calibration, said), np.full(20_000, 7), accepted)
    assert max(r.ece for r in after[:3]) <= 0.035


def test_drafts_that_are_right_without_confidence_do_not_spoil_the_fit() -> None:
    """Where doubtful drafts come true more often than middling ones, no map follows; the average is kept."""
    rng = np.random.default_rng(7)
    said = rng.uniform(0.01, 0.99, size=(5000, 7))
    right = rng.random(said.shape) < np.where(said < 0.3, 0.6, np.where(said < 0.8, 0.1, 0.9))
    accepted = right.cumprod(axis=1).sum(axis=1)
    calibration = Calibration(7)
    calibration.fit(said, np.full(5000, 7), accepted, 0.0)
    means = every(calibration, said).mean(axis=0)
    assert means[:3] == pytest.approx([(accepted > k).mean() for k in range(3)], rel=0.05)


def test_temperatures_are_calibrated_apart() -> None:
    """What is learned at temperature 1 leaves greedy decoding alone."""
    said, accepted = blocks(1000, 5, scale=0.5, shift=-1.0)
    calibration = Calibration(7)
    calibration.fit(said, np.full(1000, 7), accepted, 1.0)
    greedy, warm = (calibration.survival(said[0].tolist(), t) for t in (0.0, 1.0))
    assert greedy == pytest.approx(said[0].cumprod())
    assert warm[0] < greedy[0]


@given(st.lists(st.sampled_from([0.0, 1e-300, 0.5, 1.0]), min_size=7, max_size=7), st.integers(0, 7), st.integers(0, 7))
def test_extreme_confidences_are_learned_from_without_harm(said: list[float], admitted: int, accepted: int) -> None:
    """Certainties that fail and impossibilities that happen leave survival a falling share."""
    calibration = Calibration(7)
    for _ in range(30):
        calibration.observe(said, admitted, min(accepted, admitted), 0.0)
    survival = calibration.survival(said, 0.0)
    assert all(0 <= a <= 1 for a in survival)
    assert (np.diff(survival) <= 0).all()


def test_a_confidence_that_is_no_number_is_refused() -> None:
    """With a message that names the drafter."""
    with pytest.raises(BackendError, match="drafter"):
        Calibration(2).survival([0.5, math.nan], 0.0)
    with pytest.raises(BackendError, match="drafter"):
        Calibration(1).fit(np.array([[math.nan]]), [1], [1], 0.0)


def test_calibration_comes_back_as_it_was_kept(tmp_path: Path) -> None:
    """And is raw for another pair, another γ or a damaged file."""
    path = tmp_path / "calibration.json"
    said, accepted = blocks(500, 6, scale=0.5, shift=-1.0)
    calibration = Calibration(7)
    calibration.fit(said, np.full(500, 7), accepted, 0.6)
    calibration.save(path, "pair")
    kept = every(Calibration.load(path, "pair", gamma=7), said[:9], 0.6)
    assert kept == pytest.approx(every(calibration, said[:9], 0.6))
    raw = said[:9, :3].cumprod(axis=1)
    assert every(Calibration.load(path, "other", gamma=7), said[:9, :3], 0.6) == pytest.approx(raw)
    assert every(Calibration.load(path, "pair", gamma=3), said[:9, :3], 0.6) == pytest.approx(raw)
    path.write_text(path.read_text().replace("[", "["[:0] + '["x", ', 1))
    assert every(Calibration.load(path, "pair", gamma=7), said[:9, :3], 0.6) == pytest.approx(raw)


def test_the_measures_of_known_cases() -> None:
    """Perfect forecasts, coin flips, and a forecast that is wrong by a tenth."""
    perfect = reliability([0.0, 0.0, 1.0, 1.0], [0, 0, 1, 1])
    assert (perfect.ece, perfect.brier, perfect.auroc) == (0.0, 0.0, 1.0)
    flips = reliability([0.5] * 20, [0, 1] * 10)
    assert (flips.brier, flips.auroc) == (0.25, 0.5)
    assert reliability([0.6] * 100, [0, 1] * 50).ece == pytest.approx(0.1)
    assert math.isnan(reliability([0.5], [1]).auroc)
    assert reliability([0.9, 0.1], [0, 1]).auroc == 0.0
