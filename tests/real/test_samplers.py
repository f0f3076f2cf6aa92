"""Our samplers do what llama.cpp's own do, one by one and as a chain, on the same logits and the same text."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dspark_local.backend.library import api
from dspark_local.backend.model import Model
from dspark_local.models.locations import find
from dspark_local.sampling.dry import find_breakers
from dspark_local.sampling.penalties import Row, penalised
from dspark_local.sampling.temperature import temperature
from dspark_local.sampling.truncation import candidates
from dspark_local.types import SamplingParams
from tests.formats import tiny

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DATA = np.dtype([("id", "<i4"), ("logit", "<f4"), ("p", "<f4")])
seeds = st.integers(0, 2**32 - 1)
alone = settings(max_examples=60, deadline=None)


@pytest.fixture(scope="module")
def model() -> Iterator[Model]:
    model = Model(find("demo").target)
    yield model
    model.close()


def applied(samplers: list[Any], logits: np.ndarray, recent: list[int]) -> dict[int, float]:
    """What llama.cpp's chain leaves of these logits behind a text: token → logit."""
    chain = api.llama_sampler_chain_init(api.llama_sampler_chain_default_params())
    for sampler in samplers:
        api.llama_sampler_chain_add(chain, sampler)
    for token in recent:
        api.llama_sampler_accept(chain, token)
    data = np.zeros(logits.size, DATA)
    data["id"], data["logit"] = np.arange(logits.size), logits
    pointer = ctypes.cast(data.ctypes.data, ctypes.POINTER(api.llama_token_data))
    array = api.llama_token_data_array(data=pointer, size=logits.size, selected=-1, sorted=False)
    api.llama_sampler_apply(chain, ctypes.byref(array))
    api.llama_sampler_free(chain)
    return {int(d["id"]): float(d["logit"]) for d in data[: array.size]}


def drawn(seed: int, n: int = 4096) -> np.ndarray:
    """Logits with some spread, all different enough that rounding decides little."""
    rng = np.random.default_rng(seed)
    return rng.normal(0, rng.uniform(0.5, 4), n).astype(np.float32)


def same_set(ours: np.ndarray, theirs: dict[int, float], logits: np.ndarray) -> None:
    """Equal, but for a token or two, or a negligible mass, at the boundary: llama.cpp adds up in 32 bits."""
    differing = set(ours.tolist()) ^ set(theirs)
    weights = np.exp(logits.astype(np.float64) - logits.max())
    assert len(differing) <= 2 or weights[list(differing)].sum() <= 2e-4 * weights.sum()


@alone
@given(seeds, st.integers(1, 5000))
def test_top_k(seed: int, k: int) -> None:
    """The k largest."""
    logits = drawn(seed)
    theirs = applied([api.llama_sampler_init_top_k(k)], logits, [])
    assert set(candidates_of(logits, top_k=k)) == set(theirs)


@alone
@given(seeds, st.floats(0.01, 0.99))
def test_top_p(seed: int, p: float) -> None:
    """The nucleus."""
    logits = drawn(seed)
    same_set(candidates_of(logits, top_p=p), applied([api.llama_sampler_init_top_p(p, 0)], logits, []), logits)


@alone
@given(seeds, st.floats(0.001, 1))
def test_min_p(seed: int, p: float) -> None:
    """Those within a factor of the likeliest."""
    logits = drawn(seed)
    same_set(candidates_of(logits, min_p=p), applied([api.llama_sampler_init_min_p(p, 0)], logits, []), logits)


@alone
@given(seeds, st.floats(0.01, 0.99))
def test_typical_p(seed: int, p: float) -> None:
    """Those whose surprise is nearest to the entropy."""
    logits = drawn(seed)
    same_set(candidates_of(logits, typical_p=p), applied([api.llama_sampler_init_typical(p, 0)], logits, []), logits)


@alone
@given(seeds, st.integers(2, 400), st.floats(0.1, 2), st.floats(0.1, 2), st.floats(0.2, 3))
def test_dynamic_temperature(seed: int, k: int, middle: float, around: float, exponent: float) -> None:
    """The logits that it leaves are those before, over the temperature that we compute."""
    logits = drawn(seed)
    chain = [api.llama_sampler_init_top_k(k), api.llama_sampler_init_temp_ext(middle, around, exponent)]
    theirs = applied(chain, logits, [])
    params = SamplingParams(temperature=middle, dynatemp_range=around, dynatemp_exponent=exponent)
    heat = temperature(logits[list(theirs)], params)
    for token, left in theirs.items():
        assert left == pytest.approx(float(logits[token]) / heat, rel=2e-3, abs=2e-3)


@alone
@given(
    seeds,
    st.lists(st.integers(0, 9), max_size=100),
    st.integers(1, 80),
    st.floats(0.5, 2),
    st.floats(-1, 1),
    st.floats(-1, 1),
)
def test_penalties(seed: int, recent: list[int], n: int, repeat: float, frequency: float, presence: float) -> None:
    """Repetition, frequency and presence, over a window."""
    logits = drawn(seed, 64)
    theirs = applied([api.llama_sampler_init_penalties(64, n, repeat, frequency, presence)], logits, recent)
    params = SamplingParams(
        repeat_last_n=n, repeat_penalty=repeat, frequency_penalty=frequency, presence_penalty=presence
    )
    ours = penalised(Row(logits), params, recent, {}).logits
    np.testing.assert_allclose(ours, [theirs[t] for t in range(64)], rtol=1e-5, atol=1e-5)


@alone
@given(
    st.lists(st.sampled_from(["a", "b", "ab", "\n", ":", '"', " x", "a:", "end. "]), max_size=60),
    st.integers(1, 80),
    st.floats(0.1, 3),
    st.sampled_from([1.0, 1.1, 1.75, 4.0]),
    st.integers(1, 5),
    st.sampled_from([(), ("\n", ":", '"', "*"), ("ab",), ("b\n", "end. x")]),
)
def test_dry(
    model: Model, said: list[str], n: int, multiplier: float, base: float, allowed: int, strings: tuple[str, ...]
) -> None:
    """Penalties of repetitions, with strings that end them, by the text of the real vocabulary."""
    recent = model.encode("".join(said), special=False)
    logits = np.zeros(model.n_vocab, np.float32)
    given = (ctypes.c_char_p * len(strings))(*[s.encode() for s in strings])
    pointer = ctypes.cast(given, ctypes.POINTER(ctypes.c_char_p))
    sampler = api.llama_sampler_init_dry(model.vocab, multiplier, base, allowed, n, pointer, len(strings))
    theirs = applied([sampler], logits, recent)
    params = SamplingParams(dry_multiplier=multiplier, dry_base=base, dry_allowed_length=allowed, dry_penalty_last_n=n)
    ours = penalised(Row(logits), params, recent, model.breakers(strings)).logits
    np.testing.assert_allclose(ours, [theirs[t] for t in range(logits.size)], rtol=1e-4, atol=1e-4)


@alone
@given(seeds, st.dictionaries(st.integers(0, 63), st.floats(-20, 20), max_size=5))
def test_logit_bias(seed: int, bias: dict[int, float]) -> None:
    """Added to the logits, −inf included."""
    logits = drawn(seed, 64)
    pairs = (*bias.items(), (3, -np.inf)) if 3 not in bias else tuple(bias.items())
    given = (api.llama_logit_bias * len(pairs))(*[api.llama_logit_bias(token=t, bias=b) for t, b in pairs])
    theirs = applied([api.llama_sampler_init_logit_bias(64, len(pairs), given)], logits, [])
    ours = penalised(Row(logits), SamplingParams(logit_bias=pairs), [], {}).logits
    np.testing.assert_allclose(ours, [theirs[t] for t in range(64)], rtol=1e-6)


@alone
@given(seeds, st.integers(5, 400), st.floats(0.5, 0.99), st.floats(0.5, 0.99), st.floats(0.001, 0.2), st.floats(0.3, 2))
def test_the_whole_chain(seed: int, k: int, typical: float, p: float, least: float, heat: float) -> None:
    """Penalties, top-k, typical-p, top-p, min-p, temperature, in this order: the same set and distribution."""
    logits, recent = drawn(seed), [5, 6, 7, 5, 6, 5]
    params = SamplingParams(
        temperature=heat, top_k=k, typical_p=typical, top_p=p, min_p=least, repeat_penalty=1.3, presence_penalty=0.2
    )
    chain = [
        api.llama_sampler_init_penalties(logits.size, 64, 1.3, 0.0, 0.2), api.llama_sampler_init_top_k(k),
        api.llama_sampler_init_typical(typical, 0), api.llama_sampler_init_top_p(p, 0),
        api.llama_sampler_init_min_p(least, 0), api.llama_sampler_init_temp_ext(heat, 0.0, 1.0),
    ]  # fmt: skip
    theirs = applied(chain, logits, recent)
    changed = penalised(Row(logits), params, recent, {}).logits
    kept = candidates(changed, params)
    assert kept is not None
    assert len(set(kept.tolist()) ^ set(theirs)) <= 1  # a boundary that falls between two roundings
    for token in set(kept.tolist()) & set(theirs):
        assert theirs[token] == pytest.approx(float(changed[token]) / heat, rel=1e-4, abs=1e-5)


def test_breakers_are_found_in_parts_of_tokens() -> None:
    """By hand: 'ab' is in a token, at its end with the rest to come, or not at all."""
    pieces = [b"xaby", b"a", b"b", b"ca", b"c"]
    found = find_breakers(["ab"], pieces, lambda text: [pieces.index(text.encode())])
    assert found == {0: ((),), 1: ((2,),), 3: ((2,),)}


def test_a_files_suppressed_tokens_are_known(tmp_path: Path) -> None:
    """Those of tokenizer.ggml.suppress_tokens; none where it has none."""
    keys = {"tokenizer__ggml__suppress_tokens": tiny.Array(tiny.I32, [5, 6])}
    for name, made, expected in (("s", tiny.target().with_keys(**keys), (5, 6)), ("p", tiny.target(), ())):
        model = Model(made.write(tmp_path / f"{name}.gguf"))
        assert model.suppressed == expected
        model.close()


def candidates_of(logits: np.ndarray, **params: Any) -> np.ndarray:
    kept = candidates(logits, SamplingParams(**params))
    return np.arange(logits.size) if kept is None else kept
