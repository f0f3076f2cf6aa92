"""A small model as drafter: no text changes, its cache keeps pace, and vocabularies that nearly agree go together."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dspark_local
from dspark_local import SamplingParams
from dspark_local.backend.scripted import ScriptedTarget, random_logits
from dspark_local.drafters.model import BLOCK, MOST_ROWS, Model
from dspark_local.engine import Engine
from dspark_local.errors import ModelFormatError, PairError
from dspark_local.formats.gguf import GGUF
from dspark_local.formats.translation import MOST_DIFFERENT, Translation, translation
from dspark_local.sampling.rule import Sampler
from dspark_local.types import FinishReason
from tests.engine.harness import engine, run, say
from tests.engine.test_parking import Wavering
from tests.formats import tiny
from tests.formats.tiny import STR, Array, Tiny

if TYPE_CHECKING:
    from pathlib import Path

    from dspark_local.backend.scripted import LogitsOf

GREEDY = Sampler.of(SamplingParams(seed=1))


def drafted(
    target: LogitsOf,
    small: LogitsOf,
    *,
    n_vocab: int,
    gamma: int = BLOCK,
    slots: int = 1,
    n_batch: int = 512,
    fixed_width: int | None = None,
) -> Engine:
    model = ScriptedTarget(target, n_vocab, n_slots=slots, n_ctx=4096)
    chain = ScriptedTarget(small, n_vocab, n_slots=slots, n_ctx=4096, n_batch=n_batch)
    drafter = Model(chain, Translation.identity(n_vocab))
    engine = Engine(model, drafter, Wavering(gamma, (True,)), is_end=lambda t: t == -1, fixed_width=fixed_width)
    assert engine.drafter.block_size
    return engine


@settings(max_examples=120, deadline=None)
@given(
    pair=st.tuples(st.integers(0, 2**32), st.integers(0, 2**32)),
    n_vocab=st.integers(2, 8),
    temperature=st.sampled_from([0.0, 0.7, 1.5]),
    gamma=st.integers(1, BLOCK),
    prompt=st.lists(st.integers(0, 1), min_size=1, max_size=12),
    pattern=st.lists(st.booleans(), min_size=1, max_size=6),
    n_batch=st.integers(MOST_ROWS, 9),
)
def test_random_pairs_say_what_the_target_says(
    pair: tuple[int, int],
    n_vocab: int,
    temperature: float,
    gamma: int,
    prompt: list[int],
    pattern: list[bool],
    n_batch: int,
) -> None:
    """At every temperature, and whenever it parks."""
    target, small = (random_logits(n_vocab, seed=s) for s in pair)
    plain = say(engine(target, n_vocab=n_vocab), prompt, 16, temperature=temperature)
    chain = drafted(target, small, n_vocab=n_vocab, gamma=gamma, n_batch=n_batch)
    chain.policy = Wavering(gamma, tuple(pattern))
    assert say(chain, prompt, 16, temperature=temperature).tokens == plain.tokens


@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_the_target_as_its_own_drafter_is_accepted_whole(temperature: float) -> None:
    """The same noise makes the same picks, at any temperature; parked rounds are made up for."""
    model = random_logits(10, seed=5)
    for pattern in ((True,), (True, False, False), (False, True, True)):
        chain = drafted(model, model, n_vocab=10)
        chain.policy = Wavering(BLOCK, pattern)
        sequence = say(chain, [1, 2, 3], 64, temperature=temperature)
        assert sequence.stats.draft_n_accepted == sequence.stats.draft_n > 0


def test_the_cache_is_filled_once() -> None:
    """Behind the prompt, every decode of the chain has at most three rows of a sequence: nothing is decoded twice."""
    model = random_logits(10, seed=5)
    chain = drafted(model, random_logits(10, seed=6), n_vocab=10, gamma=3)
    say(chain, [1] * 300, 40)
    rows = [sum(spans) for spans in chain.drafter._small.decodes]
    assert rows[0] == 300
    assert max(rows[1:]) <= MOST_ROWS


@settings(max_examples=60, deadline=None)
@given(steps=st.integers(0, 6), keep=st.integers(0, 30), again=st.lists(st.integers(0, 9), max_size=8))
def test_a_request_after_one_that_was_cut_short_reads_no_stale_cache(steps: int, keep: int, again: list[int]) -> None:
    """A request that shares a prefix with one that was stopped anywhere says what it says on a fresh engine."""
    model = random_logits(10, seed=4)
    used = drafted(model, model, n_vocab=10)
    first = used.add([1, 2, 3, 4], GREEDY, max_tokens=100)
    for _ in range(steps):
        used.step()
    used.finish(first, FinishReason.CANCELLED, keep=min(len(first.tokens), first.prompt_n + keep))
    second = say(used, [*first.tokens, *again], 30)
    assert second.tokens == say(engine(model, n_vocab=10), [*first.tokens, *again], 30).tokens
    assert second.stats.draft_n_accepted == second.stats.draft_n


def test_texts_at_once_do_not_mix() -> None:
    """Requests that join and leave say what each says alone, in fixed-width mode too."""
    target, small = random_logits(10, seed=1), random_logits(10, seed=2)
    for width in (None, 4):
        shared = drafted(target, small, n_vocab=10, slots=3, gamma=3, fixed_width=width)
        together = []
        for k in range(8):
            while not shared.free:
                shared.step()
            together.append(shared.add([k, 1, 2, 3][: 1 + k % 4], GREEDY, max_tokens=5 + 3 * (k % 3)))
        run(shared)
        for k, sequence in enumerate(together):
            alone = say(engine(target, n_vocab=10), [k, 1, 2, 3][: 1 + k % 4], 5 + 3 * (k % 3))
            assert sequence.tokens == alone.tokens


def test_confidence_is_the_small_models_own() -> None:
    """The share that it gives the token, before temperature."""
    logits = random_logits(10, seed=3)
    chain = drafted(logits, logits, n_vocab=10, gamma=1)
    sequence = chain.add([1, 2, 3], GREEDY, max_tokens=9)
    chain.step()
    chain.finish(sequence, FinishReason.CANCELLED)
    again = chain.add([1, 2, 3], GREEDY, max_tokens=9)
    (proposal,) = chain.drafter.propose([again], 1)
    row = logits((1, 2, 3)).astype(float)
    assert proposal.confidences[0] == pytest.approx(np.exp(row.max()) / np.exp(row).sum())


def words(*changes: tuple[int, str], more: int = 0, fewer: int = 0) -> Array:
    tokens = tiny.tokens()
    for i, word in changes:
        tokens[i] = word
    tokens += [f"<pad{i}>" for i in range(more)]
    return Array(STR, tokens[: len(tokens) - fewer])


def vocabularies(folder: Path, small: Array) -> Translation:
    def written(name: str, tokens: Array) -> GGUF:
        keys = {
            "tokenizer__ggml__tokens": tokens,
            "tokenizer__ggml__token_type": Array(tiny.I32, [1] * len(tokens.values)),
        }
        return GGUF.open(tiny.target().with_keys(**keys).write(folder / name))

    return translation(written("t.gguf", words()), written("s.gguf", small))


def test_vocabularies_that_are_one_need_no_translation(tmp_path: Path) -> None:
    """Rows go through untouched."""
    found = vocabularies(tmp_path, words())
    row = np.arange(tiny.N_VOCAB, dtype=np.float32)
    assert found.same
    assert found.logits(row) is row
    assert found.tokens([1, 2]) == [1, 2]


def test_tokens_that_differ_go_by_their_spelling_or_are_never_drafted(tmp_path: Path) -> None:
    """Two that changed places, one that was renamed, and padding on either side."""
    a, b, c = 100, 101, 102
    names = tiny.tokens()
    found = vocabularies(tmp_path, words((a, names[b]), (b, names[a]), (c, "renamed"), more=5))
    row = np.arange(tiny.N_VOCAB + 5, dtype=np.float32)
    logits = found.logits(row)
    assert len(logits) == tiny.N_VOCAB
    assert list(logits[[a, b, c, c + 1]]) == [b, a, -np.inf, c + 1]
    assert found.tokens([a, b, c, c + 1]) == [b, a, tiny.N_VOCAB - 3, c + 1]  # its end of text stands in
    shorter = vocabularies(tmp_path, words(fewer=1))
    assert np.isneginf(shorter.logits(np.zeros(tiny.N_VOCAB - 1, np.float32))[-1])
    assert shorter.tokens([tiny.N_VOCAB - 1]) == [tiny.N_VOCAB - 3]


def test_another_vocabulary_is_refused(tmp_path: Path) -> None:
    """Too many tokens differ, or the tokenizer does."""
    other = words(*((i, f"word{i}") for i in range(MOST_DIFFERENT + 1)))
    with pytest.raises(PairError, match="its vocabulary is another"):
        vocabularies(tmp_path, other)
    target, small = tiny.target(), tiny.target().with_keys(tokenizer__ggml__pre=(STR, "llama-bpe"))
    with pytest.raises(PairError, match="its tokenizer is another"):
        translation(*(GGUF.open(m.write(tmp_path / f"{i}.gguf")) for i, m in enumerate((target, small))))
    eagle = Tiny("eagle3", small.keys, small.tensors)
    for drafter, says in (
        (tiny.draft(), "a drafter, which writes no text by itself"),
        (eagle, "eagle3, which is not driven yet"),
    ):
        with pytest.raises(ModelFormatError, match=says):
            translation(*(GGUF.open(m.write(tmp_path / f"{i}.gguf")) for i, m in enumerate((target, drafter))))


PROMPTS = [f"{a} {b}" for a in ("the", "another one there") for b in ("x", "then then then", "anthem, er")]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    near = tiny.target(seed=9).with_keys(tokenizer__ggml__tokens=words((100, "renamed")))
    models = {"target": tiny.target(), "other": tiny.target(seed=8), "near": near}
    return {name: model.write(folder / f"{name}.gguf") for name, model in models.items()}


@pytest.mark.parametrize(("temperature", "slots"), [(0.0, 1), (0.8, 3)])
def test_in_llama_fixed_width_text_is_the_undrafted_text(
    files: dict[str, Path], temperature: float, slots: int
) -> None:
    """By lookup, by a small model of the same vocabulary, by one of nearly the same, and by the target itself."""
    found = {}
    for drafter in ("none", "lookup", files["other"], files["near"], files["target"]):
        with dspark_local.load(
            files["target"], drafter=drafter, policy="fixed:3", fixed_width=4, slots=slots, ctx_size=256, threads=1
        ) as runtime:
            params = [SamplingParams(temperature=temperature, seed=i) for i in range(len(PROMPTS))]
            running = [runtime.generate(p, s, max_tokens=32) for p, s in zip(PROMPTS, params, strict=True)]
            answers = [g.result() for g in running]
            found[drafter] = [a.tokens for a in answers]
            drafts = sum(a.stats.draft_n for a in answers)
            accepted = sum(a.stats.draft_n_accepted for a in answers)
        assert bool(drafts) == (drafter != "none")
        if drafter == files["target"]:
            assert accepted > 0.95 * drafts  # but for rounding: its decodes have other widths
    assert all(texts == found["none"] for texts in found.values())


@pytest.mark.parametrize("drafter", ["lookup", "model"])
def test_the_scheduler_drives_it(files: dict[str, Path], drafter: str) -> None:
    """The auto policy times it, drafts with it, and keeps what it learned."""
    given = files["other"] if drafter == "model" else drafter
    for _ in range(2):
        with dspark_local.load(files["target"], drafter=given, ctx_size=256, threads=1) as runtime:
            assert runtime.info.drafter == drafter
            assert runtime.generate("the the the the", max_tokens=64).result().stats.rounds
