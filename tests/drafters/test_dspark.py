"""DSpark's drafts are the same whoever looked for the candidates: a backend, or we in the whole rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dspark_local.backend.base import Rebased
from dspark_local.backend.candidates import MOST, Candidates
from dspark_local.backend.scripted import ScriptedDraft, ScriptedTarget, random_logits
from dspark_local.drafters.dspark import DSpark
from dspark_local.engine import Engine
from dspark_local.sampling.rule import Sampler
from dspark_local.scheduling.policy import Fixed
from dspark_local.types import SamplingParams

if TYPE_CHECKING:
    from collections.abc import Sequence as Many

    from dspark_local.backend.base import Block, Drafted
    from dspark_local.types import Round

N = 700
SERVED: list[dict[str, Any]] = [
    {},
    {"temperature": 0.7, "top_k": 40},
    {"temperature": 1.0, "top_k": 256},
    {"temperature": 0.9, "top_k": 100, "top_p": 0.9, "min_p": 0.01, "typical_p": 0.95, "dynatemp_range": 0.3},
]
WHOLE: list[dict[str, Any]] = [
    {"temperature": 0.8},
    {"temperature": 0.8, "top_k": 257},
    {"temperature": 0.8, "top_p": 0.9},
    {"repeat_penalty": 1.3},
    {"temperature": 1.0, "top_k": 40, "presence_penalty": 0.5},
    {"temperature": 1.0, "top_k": 40, "dry_multiplier": 0.8},
    {"logit_bias": ((3, 2.0),)},
    {"typical_p": 0.5},
]


class Shifting:
    """A Markov head of hashes: every candidate's logit moves, by the two tokens before it."""

    def rebase(self, row: Candidates, confidence: float, chained: int, previous: int) -> Rebased:
        shift = np.sin(row.ids * (1 + previous) + chained).astype(np.float32)
        return Rebased(row.logits + shift, confidence / (1 + (previous + chained) % 3))


class Counting(ScriptedDraft):
    """Counts how its blocks were answered."""

    answers: list[bool]

    def draft(self, blocks: Many[Block], gamma: int) -> list[Drafted]:
        drafted = super().draft(blocks, gamma)
        self.answers = [*getattr(self, "answers", []), *(d.ids is not None for d in drafted)]
        return drafted


def rounds(
    requests: list[dict[str, Any]], *, candidates: int | None, slots: int = 1, fixed_width: int | None = None
) -> tuple[list[list[Round]], list[bool]]:
    """What comes of requests, `slots` at once, round by round; and which blocks came as candidates."""
    target = ScriptedTarget(random_logits(N, seed=1), N, n_slots=slots)
    draft = Counting(random_logits(N, seed=1, scale=1.7), N, n_slots=slots, candidates=candidates)
    engine = Engine(target, DSpark(draft, Shifting()), Fixed(5), is_end=lambda _: False, fixed_width=fixed_width)
    said: list[list[Round]] = []
    for at in range(0, len(requests), slots):
        running = [
            engine.add([1, 2, 3 + at], Sampler.of(SamplingParams(seed=at + i, **params)), max_tokens=24)
            for i, params in enumerate(requests[at : at + slots])
        ]
        records: dict[int, list[Round]] = {s.slot: [] for s in running}
        while engine.active:
            for sequence, record in engine.step():
                records[sequence.slot].append(record)
        said += records.values()
    return said, draft.answers


def told(said: list[list[Round]]) -> list[list[tuple[object, ...]]]:
    return [[(r.tokens, r.draft, r.confidences, r.accepted) for r in records] for records in said]


@pytest.mark.parametrize("fixed_width", [None, 4])
def test_candidates_give_the_drafts_that_whole_rows_give(fixed_width: int | None) -> None:
    """Drafts, confidences, accepted counts and text, served and unserved requests in turns."""
    requests = [params for pair in zip(SERVED, WHOLE, strict=False) for params in pair] + SERVED
    ours, answers = rounds(requests, candidates=MOST, fixed_width=fixed_width)
    theirs, whole = rounds(requests, candidates=None, fixed_width=fixed_width)
    assert told(ours) == told(theirs)
    assert any(answers)
    assert not all(answers)
    assert not any(whole)
    assert any(r.accepted for records in ours for r in records)


def test_one_slot_may_need_whole_rows_beside_another() -> None:
    """Two slots whose requests are of the two kinds, in one decode."""
    requests = [SERVED[2], WHOLE[4], WHOLE[0], SERVED[1]]
    ours, answers = rounds(requests, candidates=MOST, slots=2)
    assert told(ours) == told(rounds(requests, candidates=None, slots=2)[0])
    assert {True, False} == set(answers)


@pytest.mark.parametrize("params", WHOLE)
def test_requests_that_look_beyond_the_candidates_have_whole_rows(params: dict[str, Any]) -> None:
    """No block of theirs comes as candidates."""
    assert not any(rounds([params], candidates=MOST)[1])


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from(SERVED), st.sampled_from([0.5, 3.0]), st.integers(300, 5000))
def test_a_pick_that_looks_at_the_largest_only_is_the_same(
    seed: int, params: dict[str, Any], scale: float, n: int
) -> None:
    """Any served pick from a row equals that from its candidates."""
    logits = np.random.default_rng(seed).normal(0, scale, n).astype(np.float32)
    sampler = Sampler.of(SamplingParams(seed=seed % 1000, **params))
    assert sampler.looks_at(MOST)
    row = Candidates.of(logits)
    assert sampler.pick(logits, 7) == sampler.pick(row.logits, 7, ids=row.ids)


class Anything:
    """A grammar that allows everything."""

    def allowed(self, tokens: np.ndarray) -> np.ndarray:
        return np.ones(tokens.size, np.bool_)

    def accept(self, token: int) -> None:
        del token

    def copy(self) -> Anything:
        return self


def test_a_grammar_needs_whole_rows() -> None:
    """It may forbid all candidates."""
    assert not Sampler.of(SamplingParams(), constraint=Anything()).looks_at(MOST)
