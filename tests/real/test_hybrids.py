"""Targets whose layers keep a state: what their caches take back, and that text does not depend on what was drafted."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import dspark_local
from dspark_local import SamplingParams, UsageError
from dspark_local.backend.base import Block, Features, Shape, Span
from dspark_local.backend.library import api
from dspark_local.backend.llama import LlamaTarget
from dspark_local.backend.model import Model
from dspark_local.errors import BackendError, PairError
from tests.formats import hybrids, tiny
from tests.real import pairs
from tests.real.hybrids import pair

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from dspark_local import Runtime
    from dspark_local.backend.base import Floats, Rows

ARCHES = ["deepseek4", "lfm2", "qwen35"]  # tests/real/test_rows.py runs LFM2.5's mixture of experts
TEXT = [7 * i % 250 + 1 for i in range(320)]
WRONG = [3, 141, 59, 26, 53]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Path]]:
    """Each architecture, and a DSpark drafter for it."""
    return {arch: pair(tmp_path_factory.mktemp(arch), arch) for arch in ARCHES}


@contextmanager
def opened(path: Path, **shape: Any) -> Iterator[LlamaTarget]:
    target = LlamaTarget(Model(path), Shape(n_ctx=512, width=6, **shape))
    try:
        yield target
    finally:
        target.close()


def prefill(target: LlamaTarget, n: int, slot: int = 0) -> None:
    target.decode([Span(slot, 0, TEXT[:n], outputs=0)])


def row(target: LlamaTarget, at: int, slot: int = 0) -> Floats:
    """Logits behind one token, in a decode of six whose others are wrong and taken back."""
    (rows,) = target.decode([Span(slot, at, [TEXT[at], *WRONG])])
    logits = rows.logits[0].copy()
    assert target.rewind(slot, at + 1) == at + 1
    return logits


@pytest.mark.parametrize("arch", ARCHES)
def test_wrong_drafts_leave_nothing_behind(files: dict[str, tuple[Path, Path]], arch: str) -> None:
    """However many are taken back, over windows and compressed blocks: the logits are those without them."""
    with opened(files[arch][0]) as target:
        prefill(target, 60)
        at, found = 60, {}
        for k in (1, 2, 3, 4, 5, 6) * 7:  # so many of the six are right
            (rows,) = target.decode([Span(0, at, [*TEXT[at : at + k], *WRONG[: 6 - k]])])
            found |= {at + i: rows.logits[i].copy() for i in range(k)}
            at += k
            assert target.rewind(0, at) == at
        target.rewind(0, 0)
        prefill(target, 60)
        for start in range(60, at, 6):
            (rows,) = target.decode([Span(0, start, TEXT[start : start + 6])])
            for i in range(6):
                if start + i in found:
                    np.testing.assert_allclose(found[start + i], rows.logits[i], atol=0.02)


@pytest.mark.parametrize("arch", ARCHES)
def test_what_is_taken_out_is_put_back(files: dict[str, tuple[Path, Path]], arch: str) -> None:
    """A slot's bytes, right after drafts were taken back, and a copy into another slot: the same logits, bit by bit."""
    with opened(files[arch][0], n_slots=3, unified=False) as target:
        prefill(target, 64)
        row(target, 64)
        state = target.state(0, 1 << 30)
        target.copy(0, 2, 65)
        alone = [row(target, at) for at in range(65, 72)]
        assert target.restore(1, state) == 65
        for slot in (1, 2):
            for at, logits in zip(range(65, 72), alone, strict=True):
                np.testing.assert_array_equal(row(target, at, slot), logits)


@pytest.mark.parametrize("arch", ARCHES)
def test_pads_of_others_leave_at_once(files: dict[str, tuple[Path, Path]], arch: str) -> None:
    """A slot that only pads a round goes on as if there had been none, behind a rewind too."""
    said = []
    for padded in (False, True):
        with opened(files[arch][0], n_slots=2, unified=False) as target:
            for slot in (0, 1):
                prefill(target, 64, slot)
            row(target, 64, 1)
            for at in range(64, 80):
                beside = [Span(1, 65, [9] * 6, keep=False)] if padded else []
                target.decode([Span(0, at, [TEXT[at], *WRONG]), *beside])
                target.rewind(0, at + 1)
            said.append([row(target, at, 1) for at in range(65, 75)])
    np.testing.assert_array_equal(said[0], said[1])


@pytest.mark.parametrize("arch", ARCHES)
def test_what_cannot_go_back_is_forgotten(files: dict[str, tuple[Path, Path]], arch: str) -> None:
    """Not behind the last decode, not a whole one, not twice: then the slot is empty, and a decode in it says so."""
    with opened(files[arch][0]) as target:
        prefill(target, 64)
        assert target.rewind(0, 64) == 64
        target.decode([Span(0, 64, [1])])
        assert target.rewind(0, 64) == 0  # whole; a state of the decode before would be given for it
        with pytest.raises(BackendError, match="lost what came before"):
            target.decode([Span(0, 64, [1])])
        prefill(target, 64)
        target.decode([Span(0, 64, [1] * 4)])
        assert target.rewind(0, 66) == 66
        assert target.rewind(0, 65) == 0  # twice
        prefill(target, 10)
        row(target, 10)


def test_a_window_of_a_drafter_is_no_matter_where_it_goes_on(files: dict[str, tuple[Path, Path]]) -> None:
    """DeepSeek-V4's drafter beside another slot, in one stream, drafts what it drafts alone, and is not to go back."""

    def drafted(slots: int) -> Floats:
        shape = Shape(n_ctx=512, width=6, n_slots=slots)
        with pairs.opened(*files["deepseek4"], shape) as (target, draft, _):
            assert draft.forgetful is (slots > 1)
            rows = np.random.default_rng(0).standard_normal((2, 480, 2 * target.context.model.n_embd))
            blocks = []
            for at in range(0, 480, 24):
                fed = [Features(0, at, rows[0, at : at + 24]), Features(1, at // 3, rows[1, at // 3 : at // 3 + 8])]
                draft.inject(fed[:slots])  # the other one lags behind
                (block,) = draft.draft([Block(0, at + 24, 7)], draft.block_size)
                blocks.append(block.logits.copy())
        return np.array(blocks)

    np.testing.assert_allclose(drafted(2), drafted(1), atol=1e-4)


@pytest.mark.parametrize("fixed_width", [4, None])
def test_a_decode_that_fails_costs_who_was_in_it(
    files: dict[str, tuple[Path, Path]], fixed_width: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its state is gone, so the answer ends with an error; what comes next says what it says alone."""
    target, drafter = files["qwen35"]
    decode, calls, contexts = api.llama_decode, iter(range(1000)), []
    created = LlamaTarget.__init__

    def create(self: LlamaTarget, *args: Any, **options: Any) -> None:
        created(self, *args, **options)
        contexts.append(self.context.pointer)

    def failing(context: Any, batch: Any) -> int:
        done: int = decode(context, batch)
        return -3 if context is contexts[0] and next(calls) == 5 else done

    monkeypatch.setattr(LlamaTarget, "__init__", create)
    options: dict[str, Any] = {"policy": "fixed:3", "ctx_size": 384, "threads": 1, "fixed_width": fixed_width}
    with dspark_local.load(target, drafter=drafter, slots=2, **options) as runtime:
        alone = runtime.generate(TEXT[:20], max_tokens=12).result()
        warm = runtime.generate(TEXT[40:80], max_tokens=4).result()
        monkeypatch.setattr(api, "llama_decode", failing)
        with pytest.raises(BackendError, match=r"failed to decode|lost what came before"):
            runtime.generate(TEXT[100:140], max_tokens=60).result()
        assert runtime.generate(TEXT[:20], max_tokens=12).result().tokens == alone.tokens
        again = runtime.generate([*TEXT[40:80], *warm.tokens, 5], max_tokens=4).result()
        assert len(again.tokens) == 4


def texts(target: Path, drafter: Path | str, *, prompts: list[list[int]], **options: Any) -> list[tuple[int, ...]]:
    settings: dict[str, Any] = {"policy": "fixed:3", "ctx_size": 384, "threads": 1, **options}
    with dspark_local.load(target, drafter=drafter, **settings) as runtime:
        running = [
            runtime.generate(p, SamplingParams(temperature=0.9 * (i % 2), seed=3), max_tokens=24)
            for i, p in enumerate(prompts)
        ]
        done = [g.result() for g in running]
    assert drafter == "none" or sum(d.stats.draft_n - d.stats.draft_n_accepted for d in done) > 0
    return [d.tokens for d in done]


@pytest.mark.parametrize("arch", ARCHES)
def test_many_at_once_say_what_each_says_alone(files: dict[str, tuple[Path, Path]], arch: str) -> None:
    """Drafted or not, joining and leaving in three slots of fixed width, one prompt of two chunks."""
    target, drafter = files[arch]
    prompts = [TEXT[:9], TEXT[4:270], TEXT[:5] * 3, TEXT[30:70], TEXT[50:60]]
    alone = texts(target, "none", prompts=prompts, fixed_width=4)
    assert texts(target, drafter, prompts=prompts, fixed_width=4, slots=3) == alone


@pytest.mark.parametrize("arch", ARCHES)
def test_many_at_once_in_the_fast_mode_say_what_each_says_alone(
    files: dict[str, tuple[Path, Path]], arch: str
) -> None:
    """Their first tokens, as likely as alone but for rounding, with rounds of unlike widths and prompts in between."""
    target, drafter = files[arch]
    prompts = [TEXT[i : i + n] for i, n in ((0, 9), (3, 60), (9, 17), (40, 9), (20, 130), (7, 30))]
    options: dict[str, Any] = {"policy": "threshold:0.5", "ctx_size": 384, "threads": 1}

    def said(slots: int) -> list[list[float]]:
        with dspark_local.load(target, drafter=drafter, slots=slots, **options) as runtime:
            running = [runtime.generate(p, SamplingParams(logprobs=0), max_tokens=16) for p in prompts]
            return [[entry.logprob for entry in g.result().logprobs][:6] for g in running]

    for together, alone in zip(said(3), said(1), strict=True):
        np.testing.assert_allclose(together, alone, atol=0.02)


@pytest.mark.parametrize("arch", ARCHES)
@pytest.mark.parametrize("fixed_width", [4, None])
def test_a_second_turn_says_what_a_cold_start_says(
    files: dict[str, tuple[Path, Path]], arch: str, fixed_width: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes on where the cache ends; a turn that changed what was said before begins again."""
    target, drafter = files[arch]
    options: dict[str, Any] = {"drafter": drafter, "policy": "fixed:3", "ctx_size": 384, "threads": 1}
    rows: list[int] = []
    decode = LlamaTarget.decode

    def counted(self: LlamaTarget, spans: Sequence[Span]) -> list[Rows]:
        rows.append(sum(len(span.tokens) for span in spans if span.outputs is not None))
        return decode(self, spans)

    monkeypatch.setattr(LlamaTarget, "decode", counted)

    def said(runtime: Runtime, turn: list[int]) -> tuple[tuple[int, ...], list[float], int]:
        rows.clear()
        done = runtime.generate(turn, SamplingParams(logprobs=0), max_tokens=20).result()
        return done.tokens, [entry.logprob for entry in done.logprobs][:4], sum(rows)

    def started() -> Runtime:
        return dspark_local.load(target, fixed_width=fixed_width, slots=2, **options)

    first = TEXT[:270]
    with started() as warm, started() as cold:
        answer, _, _ = said(warm, first)
        second, other = [*first, *answer, 5, 6, 7], [*first, *answer[:9], 5, 6, 7]
        found = [said(warm, turn) for turn in (second, other)]
        expected = [said(cold, other), said(cold, second)][::-1]
    for (tokens, logprobs, _), (cold_tokens, cold_logprobs, _) in zip(found, expected, strict=True):
        np.testing.assert_allclose(logprobs, cold_logprobs, atol=0 if fixed_width else 0.02)
        assert tokens == cold_tokens or not fixed_width
    if not fixed_width:
        assert found[0][2] < 10


def test_a_state_that_never_goes_back_is_decoded_plainly(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Mamba answers; what would draft for it is refused in one line, or left out where nobody asked for it."""
    path = hybrids.mamba().write(tmp_path / "mamba.gguf")
    drafter, small = tiny.draft().write(tmp_path / "d.gguf"), tiny.target().write(tmp_path / "small.gguf")
    plain = texts(path, "none", prompts=[TEXT[:9]])
    with dspark_local.load(path, ctx_size=384, threads=1) as runtime:
        assert runtime.info.drafter == "none"
        assert "nothing drafts for it" in caplog.text
        first = runtime.generate(TEXT[:9], SamplingParams(seed=3), max_tokens=24).result()
        again = runtime.generate([*TEXT[:9], *first.tokens, 5], SamplingParams(seed=3), max_tokens=5).result()
    assert first.tokens == plain[0]
    assert len(again.tokens) == 5
    for wrong, kind in (
        ({"drafter": "lookup"}, UsageError),
        ({"drafter": drafter}, PairError),
        ({"drafter": small}, UsageError),
        ({"drafter": "none", "fixed_width": 4}, UsageError),
    ):
        with pytest.raises(kind, match="keeps a state that llama"):
            dspark_local.load(path, **wrong)  # type: ignore[arg-type] # one of several


def test_a_state_is_no_small_model(files: dict[str, tuple[Path, Path]], tmp_path: Path) -> None:
    """A chain of single tokens is not taken back by one decode's states."""
    target = tiny.target().write(tmp_path / "t.gguf")
    with pytest.raises(PairError, match="cannot be taken back token by token"):
        dspark_local.load(target, drafter=files["lfm2"][0])
