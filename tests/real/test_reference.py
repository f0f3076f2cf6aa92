"""llama.cpp's target and drafter compute what the paper says, to the accuracy of their types."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pytest

from dspark_local.backend.base import Block, Features, Shape, Span
from dspark_local.backend.heads import MarkovHead
from dspark_local.drafters.dspark import DSpark
from dspark_local.sampling.rule import Sampler
from dspark_local.sequence import Sequence
from dspark_local.types import SamplingParams
from tests.formats import tiny
from tests.real.pairs import opened
from tests.reference.forward import DraftReference, TargetReference

if TYPE_CHECKING:
    from pathlib import Path

TOKENS = list(b"What does textwrap.dedent do, and when would one use it?")


@pytest.mark.parametrize(("untied", "own_heads"), [(False, False), (True, False), (True, True)])
def test_random_pair_agrees_to_f16(tmp_path: Path, untied: bool, own_heads: bool) -> None:
    """Tied and untied heads, shared with the target or the drafter's own: taps, logits, confidences, tokens."""
    target = tiny.target(untied=untied, kind=tiny.F16).write(tmp_path / "t.gguf")
    draft = tiny.draft(own_heads=own_heads, kind=tiny.F16).write(tmp_path / "d.gguf")
    drafted = compare(target, draft, TOKENS, gamma=4, tolerance=0.005)
    assert drafted.same + drafted.ties == drafted.n
    assert drafted.ties <= 0.01 * drafted.n


@pytest.mark.parametrize("own_heads", [False, True])
def test_sampled_chains_are_rebased_exactly(tmp_path: Path, own_heads: bool) -> None:
    """At T = 1 the drafter's tokens and confidences are those of a chain that follows its own picks."""
    target = tiny.target(untied=True, kind=tiny.F16).write(tmp_path / "t.gguf")
    draft = tiny.draft(own_heads=own_heads, kind=tiny.F16).write(tmp_path / "d.gguf")
    sampler = Sampler.of(SamplingParams(temperature=1.0, top_k=40, seed=11))
    same = drafted = 0
    with opened(target, draft, Shape(n_ctx=512, width=8)) as (model, drafter, files):
        assert files.draft
        proposes = DSpark(drafter, MarkovHead(files.draft))
        reference = TargetReference(files.target)
        inputs, _ = reference.forward(TOKENS)
        features = np.concatenate([inputs[layer] for layer in (0, 1)], axis=1)
        draft_reference = DraftReference(files.draft, reference)
        for start in range(1, len(TOKENS)):
            (rows,) = model.decode([Span(0, start - 1, TOKENS[start - 1 : start])])
            assert rows.hidden is not None
            drafter.inject([Features(0, start - 1, rows.hidden)])
            sequence = Sequence(0, TOKENS[: start + 1], sampler, 99)
            (proposal,) = proposes.propose([sequence], 4)
            expected, _, confidences = draft_reference.draft(
                features[:start], TOKENS[start], 4, lambda logits, k, n=start + 1: sampler.pick(logits, n + k)
            )
            same += sum(itertools.takewhile(bool, map(int.__eq__, proposal.tokens, expected)))
            drafted += 4
            if list(proposal.tokens) == expected:
                np.testing.assert_allclose(proposal.confidences, confidences, atol=0.005)
    assert same >= 0.97 * drafted  # a pick between two near-equal scores may differ by rounding


@dataclass
class Drafted:
    """Of `n` drafted tokens: the reference's own, and others that its logits tell apart by less than they err."""

    n: int = 0
    same: int = 0
    ties: int = 0

    def __add__(self, other: Drafted) -> Drafted:
        return Drafted(self.n + other.n, self.same + other.same, self.ties + other.ties)


def compare(target: Path, draft: Path, tokens: list[int], *, gamma: int, tolerance: float) -> Drafted:
    """Draft after every token; asserts that taps, logits and confidences are the reference's, and counts tokens."""
    drafted = Drafted()
    with opened(target, draft, Shape(n_ctx=512, width=8)) as (model, drafter, files):
        assert files.draft
        reference = TargetReference(files.target)
        inputs, logits = reference.forward(tokens)
        layers = files.spec.target_layers if files.spec else ()
        features = np.concatenate([inputs[layer] for layer in layers], axis=1)
        tapped = np.empty_like(features)  # the drafter's reference starts from these: the target's rounding is its own
        draft_reference = DraftReference(files.draft, reference)
        for start in range(len(tokens)):
            (rows,) = model.decode([Span(0, start, tokens[start : start + 1])])
            assert rows.hidden is not None
            tapped[start] = rows.hidden[0]
            close(tapped[start], features[start], tolerance)
            close(rows.logits[0], logits[start], tolerance)
            if start:
                (block,) = drafter.draft([Block(0, start, tokens[start])], gamma)
                expected, biased, confidences = draft_reference.draft(tapped[:start], tokens[start], gamma)
                picked = block.logits.argmax(-1)
                agree = next((k for k in range(gamma) if picked[k] != expected[k]), gamma)
                upto = min(gamma, agree + 1)  # behind a difference the two chains have different inputs
                drafted.n, drafted.same = drafted.n + upto, drafted.same + agree
                if agree < gamma:
                    gap = biased[agree][expected[agree]] - biased[agree][picked[agree]]
                    drafted.ties += bool(gap < 2 * np.abs(block.logits[agree] - biased[agree]).max())
                close(block.logits[:upto], biased[:upto], tolerance)
                assert block.confidences is not None
                np.testing.assert_allclose(block.confidences[:upto], confidences[:upto], atol=tolerance)
            drafter.inject([Features(0, start, rows.hidden)])
    return drafted


def close(actual: np.ndarray, expected: np.ndarray, tolerance: float) -> None:
    """Root mean square of the difference, relative to the expected values' own."""
    error = np.sqrt(((actual - expected) ** 2).mean() / (expected**2).mean())
    assert error < tolerance, error
