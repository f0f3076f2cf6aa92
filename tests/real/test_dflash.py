"""DFlash drafters, of both versions, draft what the reference drafts, and change no text."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np
import pytest

import dspark_local
from dspark_local import SamplingParams
from dspark_local.backend.base import Features, Shape, Span
from dspark_local.drafters.dflash import DFlash
from dspark_local.sampling.rule import Sampler
from dspark_local.sequence import Sequence
from tests.formats import tiny
from tests.real.pairs import opened
from tests.reference.forward import DFlashReference, TargetReference

if TYPE_CHECKING:
    from pathlib import Path

TOKENS = list(b"What does textwrap.dedent do, and when would one use it?")


@pytest.mark.parametrize("second", [False, True])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_it_drafts_what_the_reference_drafts(tmp_path: Path, second: bool, temperature: float) -> None:
    """Tokens and confidences behind every prefix, in blocks of every length."""
    target = tiny.target(untied=True, kind=tiny.F16).write(tmp_path / "t.gguf")
    draft = tiny.dflash(second=second, kind=tiny.F16).write(tmp_path / "d.gguf")
    sampler = Sampler.of(SamplingParams(temperature=temperature, seed=11))
    same = drafted = 0
    with opened(target, draft, Shape(n_ctx=512, width=8)) as (model, drafter, files):
        assert files.draft
        assert drafter.block_size == tiny.BLOCK - 1
        proposes, reference = DFlash(drafter), TargetReference(files.target)
        draft_reference = DFlashReference(files.draft, reference)
        features = np.empty((len(TOKENS), 2 * tiny.N_EMBD))
        for start in range(1, len(TOKENS)):
            (rows,) = model.decode([Span(0, start - 1, TOKENS[start - 1 : start])])
            assert rows.hidden is not None
            features[start - 1] = rows.hidden[0]
            drafter.inject([Features(0, start - 1, rows.hidden)])
            gamma = 1 + start % drafter.block_size
            (proposal,) = proposes.propose([Sequence(0, TOKENS[: start + 1], sampler, 99)], gamma)
            expected, _, shares = draft_reference.draft(
                features[:start], TOKENS[start], gamma, lambda logits, k, n=start + 1: sampler.pick(logits, n + k)
            )
            agree = sum(itertools.takewhile(bool, map(int.__eq__, proposal.tokens, expected)))
            np.testing.assert_allclose(proposal.confidences[:agree], shares[:agree], atol=0.01)
            same, drafted = same + agree, drafted + gamma
    assert same >= 0.97 * drafted  # a pick between two near-equal scores may differ by rounding


@pytest.mark.parametrize("second", [False, True])
@pytest.mark.parametrize("temperature", [0.0, 0.9])
def test_it_changes_no_text(tmp_path: Path, second: bool, temperature: float) -> None:
    """Several requests at once, token for token, in fixed-width mode; it is called by its name and its drafts count."""
    target = tiny.target().write(tmp_path / "t.gguf")
    draft = tiny.dflash(second=second).write(tmp_path / "d.gguf")

    def texts(drafter: Path | str, slots: int) -> tuple[list[tuple[int, ...]], int]:
        options = {"policy": "fixed:2", "fixed_width": 4, "ctx_size": 192, "threads": 1}
        with dspark_local.load(target, drafter=drafter, slots=slots, **options) as runtime:
            assert runtime.info.drafter == ("none" if drafter == "none" else "dflash")
            params = [SamplingParams(temperature=temperature, seed=i) for i in range(4)]
            running = [runtime.generate(f"the {i} in", p, max_tokens=30 + i) for i, p in enumerate(params)]
            done = [g.result() for g in running]
        return [d.tokens for d in done], sum(d.stats.draft_n for d in done)

    plain, _ = texts("none", 1)
    drafted, n = texts(draft, 3)
    assert drafted == plain
    assert n > 0


def test_it_is_found_beside_its_target(tmp_path: Path) -> None:
    """By llama.cpp's own convention for names."""
    target = tiny.target().write(tmp_path / "Tiny-Q8_0.gguf")
    tiny.dflash().write(tmp_path / "dflash-Tiny-Q8_0.gguf")
    with dspark_local.load(target, policy="fixed:2", ctx_size=192, threads=1) as runtime:
        assert runtime.info.drafter == "dflash, lookup"
        events = runtime.generate("the", max_tokens=20)
        drafted = {e.round.by for e in events if isinstance(e, dspark_local.RoundDone) and e.round.drafted}
    assert drafted == {"dflash"}
