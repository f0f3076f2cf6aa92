"""In real llama.cpp: what is copied, put back or read from disk serves both models as what was prefilled does."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import dspark_local
from dspark_local import saving
from dspark_local.backend.base import Shape
from dspark_local.backend.heads import MarkovHead
from dspark_local.chat import encode_chat
from dspark_local.drafters.dspark import DSpark
from dspark_local.engine import Engine
from dspark_local.errors import BackendError, StorageError, UsageError
from dspark_local.models.locations import find
from dspark_local.sampling.rule import Sampler
from dspark_local.scheduling.policy import Fixed
from dspark_local.types import FinishReason, SamplingParams
from tests.formats import tiny
from tests.real.pairs import opened
from tests.real.prompts import PROMPTS, QUESTIONS
from tests.real.test_rows import dspark

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from dspark_local import Runtime
    from dspark_local.backend.base import Rows, Span
    from dspark_local.sequence import Sequence

N = 48
GREEDY = Sampler.of(SamplingParams(seed=1))
WAYS = ("own", "copied", "kept", "saved")


@contextmanager
def engine(fixed_width: int | None, *, slots: int = 2, n_ctx: int = 5120) -> Iterator[Engine]:
    pair = find("demo")
    assert pair.drafter
    shape = Shape(n_ctx=n_ctx, n_slots=slots, width=fixed_width or 4, unified=fixed_width is None)
    with opened(pair.target, pair.drafter, shape) as (target, draft, files):
        assert files.draft
        made = DSpark(draft, MarkovHead(files.draft))
        yield Engine(
            target, made, Fixed(3), is_end=lambda _: False, fixed_width=fixed_width, keep_bytes=1 << 30
        )


def tokens_of(engine: Engine, texts: list[str]) -> list[int]:
    return [t for text in texts for t in encode_chat(engine.target.context.model, [{"role": "user", "content": text}])]


def ask(engine: Engine, prompt: list[int], n: int = N) -> tuple[int, Sequence]:
    """Rows that the target decodes until the answer begins; and the whole answer."""
    rows, decode = 0, engine.target.decode

    def counting(spans):
        nonlocal rows
        rows += sum(len(span.tokens) for span in spans)
        return decode(spans)

    engine.target.decode = counting
    sequence = engine.add(prompt, GREEDY, max_tokens=n)
    while not sequence.stats.predicted_n:
        engine.step()
    engine.target.decode = decode
    while sequence in engine.active:
        engine.step()
    return rows, sequence


def empty(engine: Engine) -> None:
    """As if freshly loaded."""
    engine.abandon()
    engine._caches._kept._kept.clear()


def again(engine: Engine, way: str, first: Sequence, prompt: list[int], folder: Path) -> tuple[int, Sequence]:
    """The second turn, its beginning from where `way` says."""
    if way == "copied":
        holder = engine.add(first.tokens, GREEDY, max_tokens=1000)
        engine.step()
        found = ask(engine, prompt)
        engine.finish(holder, FinishReason.CANCELLED)
        return found
    if way == "saved":
        snapshot = engine.snapshot(first.tokens)
        assert snapshot
        saving.write(folder / "state", snapshot, "demo")
        engine.abandon()
        engine.adopt(saving.read(folder / "state", "demo"))
    if way == "kept":
        for slot in range(2):
            ask(engine, tokens_of(engine, QUESTIONS[slot : slot + 20]), 4)
    return ask(engine, prompt)


ALL_WAYS = [pytest.param(None, WAYS, marks=pytest.mark.slow), pytest.param(4, WAYS, marks=pytest.mark.slow)]


@pytest.mark.parametrize(("fixed_width", "ways"), [(4, ("kept",)), *ALL_WAYS])
def test_the_second_turn_of_a_long_conversation(
    fixed_width: int | None, ways: tuple[str, ...], tmp_path: Path
) -> None:
    """After 4096 tokens a tenth of the rows, as many drafts accepted, and where the width is fixed a cold start's text.

    By every way that a beginning may come: in its own slot, copied from one that runs, kept in memory, from a file.
    """
    with engine(fixed_width) as made:
        long = (tokens_of(made, PROMPTS) * 20)[:4096]
        _, first = ask(made, long)
        prompt = [*first.tokens, *tokens_of(made, ["How do I use re.sub?"])]
        warmed = []
        for way in ways:
            if warmed:
                empty(made)
                _, first = ask(made, long)
            warmed.append((way, *again(made, way, first, prompt, tmp_path)))
        empty(made)
        cold, expected = ask(made, prompt)
        for way, warm, second in warmed:
            assert warm * 10 <= cold, way
            if fixed_width:
                assert second.tokens == expected.tokens, way
            assert second.stats.accepted_length >= 0.98 * expected.stats.accepted_length, way


@pytest.mark.parametrize(
    ("fixed_width", "questions"),
    [(4, QUESTIONS[::24]), *(pytest.param(w, QUESTIONS[::3], marks=pytest.mark.slow) for w in (None, 4))],
)
def test_acceptance_after_a_hit_is_that_of_a_cold_start(
    fixed_width: int | None, questions: list[str], tmp_path: Path
) -> None:
    """Over questions behind 600 shared tokens and each way: as many tokens a round, within 2 %.

    Where the width is fixed, all texts are the same; else a near-tie may fork one, which is not compared then.
    """
    with engine(fixed_width, n_ctx=1024) as made:
        shared = (tokens_of(made, PROMPTS) * 3)[:600]
        rounds = dict.fromkeys(WAYS, (0, 0))  # cold, and after a hit
        same = 0
        for question in questions:
            prompt = [*shared, *tokens_of(made, [question])]
            empty(made)
            _, cold = ask(made, prompt)
            for way in WAYS:
                empty(made)
                _, first = ask(made, shared, 4)
                _, hit = again(made, way, first, prompt, tmp_path)
                if hit.tokens == cold.tokens:
                    same += 1
                    rounds[way] = (rounds[way][0] + cold.stats.rounds, rounds[way][1] + hit.stats.rounds)
    assert same > len(questions) * len(WAYS) * (0.99 if fixed_width else 0.5)
    for way, (cold_rounds, hit_rounds) in rounds.items():
        assert hit_rounds == pytest.approx(cold_rounds, rel=0.02), way


def test_prompts_at_once_with_one_beginning_say_what_each_says_alone() -> None:
    """Eight in fixed-width mode that share 512 tokens: decoded once, copied stream to stream, and bit for bit."""
    with engine(4, slots=8, n_ctx=1024) as made:
        shared = (tokens_of(made, PROMPTS) * 3)[:512]
        prompts = [[*shared, *tokens_of(made, [question])] for question in QUESTIONS[:8]]
        alone = []
        for prompt in prompts:
            empty(made)
            alone.append(ask(made, prompt)[1].tokens)
        empty(made)
        together = [made.add(prompt, GREEDY, max_tokens=N) for prompt in prompts]
        while made.active:
            made.step()
        assert [s.tokens for s in together] == alone


def test_a_state_that_does_not_fit_leaves_the_slot_empty(tmp_path: Path) -> None:
    """Bytes of another model, or too few, are refused, and the slot works on; nor are more taken out than may be."""
    path, other = tiny.target().write(tmp_path / "t.gguf"), tiny.draft().write(tmp_path / "d.gguf")
    with opened(path, other, Shape(n_ctx=256, n_slots=2, width=4)) as (target, _, _), engine(None, n_ctx=512) as made:
        _, first = ask(made, tokens_of(made, ["Hello!"]), 4)
        snapshot = made.snapshot(first.tokens)
        assert snapshot
        with pytest.raises(BackendError, match="put back"):
            target.restore(1, snapshot.target)
        with pytest.raises(BackendError, match="put back"):
            made.target.restore(1, snapshot.target[:-100])
        assert ask(made, first.tokens[:-4], 4)[1].tokens == first.tokens
        with pytest.raises(BackendError, match="too large"):
            made.target.state(0, 100)


@pytest.mark.parametrize("fault", ["cut", "bit", "head", "empty", "other", "none", "long"])
def test_a_faulty_file_is_refused_with_one_line(fault: str, tmp_path: Path) -> None:
    """Truncated, damaged anywhere, of another pair, no file at all: nothing of it reaches llama.cpp."""
    path = tmp_path / "state"
    snapshot = saving.Snapshot([1, 2, 3], 0, bytearray(b"target" * 100), bytearray(b"drafter"))
    saving.write(path, snapshot, "this pair")
    read = saving.read(path, "this pair")
    assert (read.tokens, read.target, read.drafter) == (snapshot.tokens, snapshot.target, snapshot.drafter)
    data = path.read_bytes()
    spoilt = {
        "cut": data[:-40], "bit": data[:300] + bytes([data[300] ^ 1]) + data[301:], "long": data + b"x",
        "head": data[:21] + b"\xff" * 8 + data[29:], "empty": b"", "other": data, "none": None,
    }[fault]  # fmt: skip
    path.unlink()
    if spoilt is not None:
        path.write_bytes(spoilt)
    with pytest.raises(StorageError) as error:
        saving.read(path, "another pair" if fault == "other" else "this pair")
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value)


def test_a_file_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    """What cannot be written leaves what was there before, and nothing beside it."""
    path = tmp_path / "state"
    snapshot = saving.Snapshot([1], 0, bytearray(b"t"), bytearray())
    saving.write(path, snapshot, "a")
    with pytest.raises(StorageError, match="cannot be written"):
        saving.write(tmp_path / "no" / "state", snapshot, "a")
    tmp_path.chmod(0o700)
    assert [f.name for f in tmp_path.iterdir()] == ["state"]


def test_a_conversation_goes_on_in_another_process(tmp_path: Path) -> None:
    """Saved by a runtime and restored by another: the second turn decodes what is new, and says what it would have.

    A runtime without the drafter refuses the file, and one that holds nothing of a conversation cannot save it.
    """
    path = tmp_path / "conversation"
    said: list[dict[str, str]] = [{"role": "user", "content": QUESTIONS[0] * 100}]
    load = partial(dspark_local.load, "demo", policy="fixed:3", fixed_width=4, ctx_size=2048, threads=1)
    with load() as runtime:
        said.append({"role": "assistant", "content": runtime.chat(said, max_tokens=N).result().text})
        runtime.save(path, said)
        said.append({"role": "user", "content": QUESTIONS[1]})
        expected = runtime.chat(said, max_tokens=N).result()
        with pytest.raises(UsageError, match="nothing is held"):
            runtime.plain().save(path, said)
        with runtime.plain() as plain, pytest.raises(StorageError, match="other"):
            plain.restore(path)
    with load() as runtime:
        runtime.restore(path)
        rows = 0
        decode = runtime._engine.target.decode

        def counting(spans):
            nonlocal rows
            rows += sum(len(span.tokens) for span in spans if span.outputs is not None)
            return decode(spans)

        runtime._engine.target.decode = counting
        found = runtime.chat(said, max_tokens=N).result()
        assert found.tokens == expected.tokens
        assert rows < 256 + 64 < found.stats.prompt_n / 2


def test_a_budget_is_no_less_than_nothing() -> None:
    """As load says before it loads anything."""
    with pytest.raises(UsageError, match="keep-bytes"):
        dspark_local.load("demo", keep_bytes=-1)


@contextmanager
def counted(runtime: Runtime) -> Iterator[list[int]]:
    """Rows of each decode meanwhile."""
    rows: list[int] = []
    decode = runtime._engine.target.decode

    def counting(spans: list[Span]) -> list[Rows]:
        rows.append(sum(len(span.tokens) for span in spans))
        return decode(spans)

    runtime._engine.target.decode = counting
    try:
        yield rows
    finally:
        runtime._engine.target.decode = decode


@pytest.mark.parametrize(("family", "slots"), [("gemma2", 1), ("gemma4", 2)])
def test_a_window_is_kept_and_saved(tmp_path: Path, family: str, slots: int) -> None:
    """Behind others, and from a file, a conversation goes on at once: log-probabilities are those of a cold start."""
    _, _, target, drafter = dspark(tmp_path, family)
    options: dict[str, Any] = {"drafter": drafter, "policy": "fixed:3", "ctx_size": 1024, "threads": 1, "slots": slots}
    greedy = SamplingParams(logprobs=0)
    text, more = [(7 * t) % 250 + 1 for t in range(300)], [(3 * t) % 250 + 1 for t in range(20)]

    def said(runtime: Runtime, prompt: list[int]) -> tuple[int, list[int], list[float]]:
        with counted(runtime) as rows:
            finish = runtime.generate(prompt, greedy, max_tokens=12).result()
        return sum(rows), [*prompt, *finish.tokens], [entry.logprob for entry in finish.logprobs]

    with dspark_local.load(target, **options) as runtime:
        _, first, _ = said(runtime, text)
        for n in range(slots):
            runtime.generate([n + 1] * 280, max_tokens=4).result()
        rows, second, kept = said(runtime, [*first, *more])
        snapshot = runtime._worker.call(lambda engine: engine.snapshot(second))
        assert snapshot
        saving.write(tmp_path / "state", snapshot, "tiny")
    with dspark_local.load(target, **options) as runtime:
        runtime._worker.call(lambda engine: engine.adopt(saving.read(tmp_path / "state", "tiny")))
        fewer, third, saved = said(runtime, [*second, *more])
    assert max(rows, fewer) <= len(more) + 14 * 4
    for text, ours in ((second, kept), (third, saved)):
        with dspark_local.load(target, **options, keep_bytes=0) as runtime:
            cold, _, alone = said(runtime, text[:-12])
        assert cold > len(text) - 14
        np.testing.assert_allclose(ours[:8], alone[:8], atol=0.02)
