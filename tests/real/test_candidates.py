"""In real llama.cpp, candidates picked in the drafter's graph are those found in its logits."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import dspark_local
from dspark_local import RoundDone, SamplingParams, UsageError, loading
from dspark_local.backend import llama, topk
from dspark_local.backend.base import Block, Drafted, Features, Shape, Span
from dspark_local.backend.candidates import Candidates
from dspark_local.backend.library import api
from dspark_local.backend.llama import LlamaDraft
from dspark_local.backend.model import Model
from dspark_local.backend.probe import Verdict
from dspark_local.models.locations import find
from tests.formats import tiny
from tests.real.pairs import opened
from tests.real.prompts import QUESTIONS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from dspark_local.backend.llama import LlamaTarget

SERVED: list[dict[str, Any]] = [
    {},
    {"temperature": 0.7, "top_k": 40},
    {"temperature": 1.0, "top_k": 256},
]
PENALTIES: dict[str, Any] = {"temperature": 0.7, "top_k": 40, "repeat_penalty": 1.2}
GAMMA = 7
TOKENS = [i * 7 % 4096 for i in range(40)]


def told(runtime: dspark_local.Runtime, asked: list[dict[str, Any]], *, at_once: int = 1) -> list[object]:
    """Drafts, confidences, accepted counts and text of requests, so many of them at once."""
    said: list[object] = []
    for at in range(0, len(asked), at_once):
        running = [
            runtime.generate(QUESTIONS[at + i], SamplingParams(seed=at + i, **params), max_tokens=32)
            for i, params in enumerate(asked[at : at + at_once])
        ]
        for generation in running:
            rounds = [event.round for event in generation if isinstance(event, RoundDone)]
            said.append([(r.tokens, r.draft, r.confidences, r.accepted) for r in rounds])
            said.append(generation.result().text)
    return said


@pytest.mark.parametrize("fixed_width", [None, 4])
def test_drafts_and_text_are_those_from_logits(fixed_width: int | None) -> None:
    """Token for token and confidence for confidence, with a request between that penalties make look at whole rows."""
    asked = [*SERVED, PENALTIES, *SERVED]
    said = []
    for candidates in loading.CANDIDATES:
        with dspark_local.load(
            "demo", policy="fixed:3", draft_candidates=candidates, fixed_width=fixed_width, ctx_size=512, threads=1
        ) as runtime:
            said.append(told(runtime, asked))
    assert said[0] == said[1]


def test_two_slots_whose_requests_differ() -> None:
    """One needs whole rows beside another that does not; in fixed width, where no neighbour rounds anything."""
    asked = [SERVED[1], PENALTIES, {"temperature": 1.0}, SERVED[2]]
    said = []
    for candidates in loading.CANDIDATES:
        with dspark_local.load(
            "demo", policy="fixed:3", draft_candidates=candidates, fixed_width=4, slots=2, ctx_size=512, threads=1
        ) as runtime:
            said.append(told(runtime, asked, at_once=2))
    assert said[0] == said[1]


@pytest.fixture(scope="module")
def drafters() -> Iterator[tuple[LlamaTarget, LlamaDraft, LlamaDraft]]:
    """The demo's target with the same text in three slots, and two drafters: the second is asked for candidates."""
    pair = find("demo")
    assert pair.drafter
    shape = Shape(n_ctx=256, n_slots=3, width=GAMMA + 1, threads=1)
    with opened(pair.target, pair.drafter, shape) as (target, whole, files):
        assert files.spec
        with closing(LlamaDraft(Model(pair.drafter), target, files.spec, shape, candidates=True)) as picking:
            for slot in range(3):
                hidden = target.decode([Span(slot, 0, TOKENS, outputs=0)])[0].hidden
                assert hidden is not None
                for drafter in (whole, picking):
                    drafter.inject([Features(slot, 0, hidden)])
            yield target, whole, picking


@pytest.mark.parametrize(
    "kinds", [[True] * 3, [False] * 3, [True, False, True], [False, True, False], [False], [True], [False, True]]
)
def test_every_row_has_the_candidates_of_its_logits(
    drafters: tuple[LlamaTarget, LlamaDraft, LlamaDraft], kinds: list[bool]
) -> None:
    """Bit for bit, beside slots that want whole rows, whatever was wanted before."""
    _, whole, picking = drafters
    blocks = [Block(slot, len(TOKENS), 5 + slot, whole=kind) for slot, kind in enumerate(kinds)]
    theirs = [Drafted(d.logits.copy(), np.array(d.confidences)) for d in whole.draft(blocks, GAMMA)]
    for block, a, b in zip(blocks, theirs, picking.draft(blocks, GAMMA), strict=True):
        np.testing.assert_array_equal(a.confidences, b.confidences)  # type: ignore[arg-type]  # there are some
        if block.whole:
            assert b.ids is None
            np.testing.assert_array_equal(a.logits, b.logits)
            continue
        assert b.ids is not None
        rows = [Candidates.of(row) for row in a.logits]
        np.testing.assert_array_equal([row.ids for row in rows], b.ids)
        np.testing.assert_array_equal([row.logits for row in rows], b.logits)


def test_a_vocabulary_smaller_than_the_candidates_is_taken_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """llama.cpp would abort if it were asked for more tokens than there are."""
    monkeypatch.setattr(topk, "MOST", tiny.N_VOCAB + 1)
    pair = tiny.target().write(tmp_path / "t.gguf"), tiny.draft().write(tmp_path / "d.gguf")
    shape = Shape(n_ctx=128, width=4, threads=1)
    with opened(*pair, shape) as (target, _, files):
        assert files.spec
        with closing(LlamaDraft(Model(pair[1]), target, files.spec, shape, candidates=True)) as drafter:
            (drafted,) = drafter.draft([Block(0, 0, 5, whole=False)], 2)
    assert drafted.ids is not None
    np.testing.assert_array_equal(drafted.ids, [range(tiny.N_VOCAB)] * 2)


def refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    """llama.cpp says no."""
    monkeypatch.setattr(api, "llama_set_sampler", lambda *_: False)


def ignores(monkeypatch: pytest.MonkeyPatch) -> None:
    """llama.cpp says yes to a sampler that has no operators for a backend, and leaves the rows whole."""
    monkeypatch.setattr(api, "llama_sampler_init_top_k", lambda _: api.llama_sampler_init_typical(0.5, 1))


@pytest.mark.parametrize("cannot", [refuses, ignores])
def test_a_backend_that_cannot_leaves_the_rows_whole(cannot: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """With one line in the log, when it is opened."""
    pair = find("demo")
    assert pair.drafter
    said: list[str] = []
    monkeypatch.setattr(llama._logger, "warning", lambda text, *words: said.append(text % words))
    cannot(monkeypatch)
    shape = Shape(n_ctx=256, width=4, threads=1)
    with opened(pair.target, pair.drafter, shape) as (target, _, files):
        assert files.spec
        with closing(LlamaDraft(Model(pair.drafter), target, files.spec, shape, candidates=True)) as drafter:
            (drafted,) = drafter.draft([Block(0, 0, 5, whole=False)], 3)
    assert drafted.ids is None
    (line,) = said
    assert "does not pick candidates on this backend" in line


def test_what_would_die_of_it_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is tried in a child first; if that dies, candidates come from the logits, and one line says so."""

    def probe(*_files: object, candidates: bool = False, **_options: object) -> Verdict:
        return Verdict(ok=not candidates, detail="it died of it", died=candidates)

    said: list[str] = []
    monkeypatch.setattr(loading, "probe_once", probe)
    monkeypatch.setattr(loading._logger, "warning", lambda text, *words: said.append(text % words))
    monkeypatch.setattr(llama, "TopK", None)
    with dspark_local.load("demo", policy="fixed:3", draft_candidates="backend", ctx_size=256, threads=1) as runtime:
        assert runtime.generate("the", max_tokens=8).result().stats.draft_n > 0
    assert said == ["the drafter's candidates are looked for in its logits: it died of it"]


def test_other_drafters_are_not_concerned(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line says so."""
    said: list[str] = []
    monkeypatch.setattr(loading._logger, "warning", said.append)
    with dspark_local.load("demo", drafter="lookup", draft_candidates="backend", ctx_size=256, threads=1):
        pass
    assert said == ["--draft-candidates backend is for DSpark drafters, and changes nothing here"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"draft_candidates": "gpu"}, "logits or backend"),
        ({"draft_candidates": "backend", "rpc": "127.0.0.1:1"}, "do not go together"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_loaded(options: dict[str, str], says: str) -> None:
    """In one line."""
    with pytest.raises(UsageError, match=says):
        dspark_local.load("demo", **options)  # type: ignore[arg-type]  # of several types
