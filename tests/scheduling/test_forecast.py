"""What is believed of blocks to come."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspark_local.scheduling.forecast import Forecast, History

SHARES = st.lists(st.floats(0, 1), max_size=7)


@given(st.lists(st.tuples(SHARES, st.integers(0, 7), st.integers(0, 7), st.booleans()), max_size=30))
def test_belief_is_a_falling_chance_whatever_is_seen(blocks: list[tuple[list[float], int, int, bool]]) -> None:
    """Certainties, failures, silence and new texts included."""
    forecast, history = Forecast(7), History()
    for shares, verified, right, renews in blocks:
        admitted = min(verified, len(shares) or 7)
        accepted = min(right, admitted)
        features = history.features(forecast.rate)
        forecast.learn(features, shares, admitted, accepted)
        history.add(shares, admitted, accepted)
        if renews:
            history.renew()
        else:
            history.wait()
        (belief,) = forecast.survival([history.features(forecast.rate)])
        assert all(0 < b <= 1 for b in belief)
        assert belief == sorted(belief, reverse=True)


def seen(accepted: int, *, shares: list[float], times: int = 60) -> tuple[Forecast, History]:
    forecast, history = Forecast(7), History()
    for _ in range(times):
        forecast.learn(history.features(forecast.rate), shares, 3, accepted)
        history.add(shares, 3, accepted)
    return forecast, history


def test_it_comes_to_what_it_is_shown() -> None:
    """Blocks of three that are always accepted, or never."""
    good, its_history = seen(3, shares=[0.8] * 3)
    assert good.survival([its_history.features(good.rate)])[0][2] > 0.85
    bad, history = seen(0, shares=[0.8] * 3)
    assert bad.survival([history.features(bad.rate)])[0][0] < 0.15


def test_a_longer_block_that_was_never_tried_looks_worth_a_try() -> None:
    """After many blocks of three that were all accepted, position 7 is believed likelier than before."""
    forecast, history = seen(3, shares=[0.97] * 3)
    fresh = Forecast(7).survival([History().features(0.75)])[0][6]
    assert forecast.survival([history.features(forecast.rate)])[0][6] > 2 * fresh


def test_a_doubtful_refusal_lowers_what_comes_next() -> None:
    """Of two blocks refused at once, the one of low confidence bodes worse; in time both are forgotten."""
    forecast, histories = Forecast(7), (History(), History())
    for history, share in zip(histories, (0.1, 0.9), strict=True):
        history.add([share] * 3, 3, 0)
    doubtful, sure = forecast.survival([h.features(forecast.rate) for h in histories])
    assert doubtful[0] < sure[0] < forecast.survival([History().features(forecast.rate)])[0][0]
    for history in histories:
        for _ in range(200):
            history.wait()
    doubtful, sure = forecast.survival([h.features(forecast.rate) for h in histories])
    assert doubtful[0] == pytest.approx(sure[0], abs=0.01)
