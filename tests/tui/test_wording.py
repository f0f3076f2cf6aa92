"""What the panel says of a round."""

from __future__ import annotations

import pytest

from dspark_local import Round, Why
from dspark_local.tui.wording import pace

DRAFT = (1, 2, 3)


@pytest.mark.parametrize(
    ("record", "said"),
    [
        (Round((5,), why=Why.PARK, rate=8.7, plain=10.0), "parked: plain decoding is faster here (0.87 ×)"),
        (Round((5,), draft=DRAFT, admitted=2, rate=15.0, plain=10.0), "drafted 3, verified 2, 1.50 × plain expected"),
        (Round((5,), draft=DRAFT, admitted=3), "drafted 3, verified 3"),
        (Round((5,), draft=DRAFT, why=Why.PROBE, rate=9.0, plain=10.0), "parked, looking whether drafting pays again"),
        (Round((5,), why=Why.LIMIT), ""),
    ],
)
def test_a_round_is_told_in_words(record: Round, said: str) -> None:
    """Why it drafted or did not, and what that was expected to bring."""
    assert pace(record) == said
