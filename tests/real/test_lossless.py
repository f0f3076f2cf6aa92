"""In real llama.cpp, drafting changes no token in fixed-width mode, alone or beside others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

import dspark_local
from dspark_local import SamplingParams
from tests.formats import tiny
from tests.real.prompts import QUESTIONS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PROMPTS = [f"{a} {b}" for a in ("the", "another one there", "in an inner earth") for b in ("x", "then", "anthem, er")]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("pair")
    return tiny.target().write(folder / "t.gguf"), tiny.draft().write(folder / "d.gguf")


def texts(
    pair: tuple[Path, Path],
    *,
    drafter: bool,
    slots: int = 1,
    fixed_width: int | None = 4,
    temperature: float,
    n: int = 48,
) -> list[tuple[int, ...]]:
    """Tokens of every prompt; with several slots, as many at once."""
    with dspark_local.load(
        pair[0],
        drafter=pair[1] if drafter else "none",
        policy="fixed:3",
        fixed_width=fixed_width,
        slots=slots,
        ctx_size=256,
        threads=1,
    ) as runtime:
        params = [SamplingParams(temperature=temperature, seed=i) for i in range(len(PROMPTS))]
        # lengths differ, so that requests leave and others join in the middle of their neighbours' answers
        running = [
            runtime.generate(p, s, max_tokens=n - 5 * (i % 3))
            for i, (p, s) in enumerate(zip(PROMPTS, params, strict=True))
        ]
        return [g.result().tokens for g in running]


@pytest.mark.parametrize("temperature", [0.0, 0.7, 1.0])
def test_drafted_equals_undrafted(pair: tuple[Path, Path], temperature: float) -> None:
    """Token for token, over prompts and seeds."""
    assert texts(pair, drafter=True, temperature=temperature) == texts(pair, drafter=False, temperature=temperature)


@pytest.mark.parametrize("slots", [2, 4, 8])
@pytest.mark.parametrize("temperature", [0.0, 0.9])
def test_sequences_at_once_equal_each_alone(pair: tuple[Path, Path], slots: int, temperature: float) -> None:
    """Two, four and eight requests that join and leave say what each says when it has the machine to itself."""
    alone = texts(pair, drafter=False, temperature=temperature)
    assert texts(pair, drafter=True, slots=slots, temperature=temperature) == alone


SCHEMA = '{"type": "object", "properties": {"name": {"type": "string", "maxLength": 30}, "n": {"type": "integer"}}}'
ALL_ON: dict[str, Any] = {
    "top_k": 60,
    "typical_p": 0.95,
    "top_p": 0.97,
    "min_p": 0.01,
    "repeat_penalty": 1.1,
    "frequency_penalty": 0.1,
    "presence_penalty": 0.1,
    "dry_multiplier": 0.8,
    "dynatemp_range": 0.2,
    "logit_bias": ((5, -1.0), (17, 0.5)),
    "logprobs": 2,
}


@pytest.fixture(scope="module")
def demo() -> Iterator[dict[str, dspark_local.Runtime]]:
    with (
        dspark_local.load("demo", policy="fixed:3", fixed_width=4, ctx_size=512, threads=1) as drafted,
        dspark_local.load("demo", drafter="none", fixed_width=4, ctx_size=512, threads=1) as plain,
    ):
        yield {"drafted": drafted, "plain": plain}


@pytest.mark.parametrize("temperature", [0.0, 0.3, 0.7, 1.0, 1.5])
@pytest.mark.parametrize("grammar", [{}, {"json_schema": SCHEMA}])
def test_all_samplers_at_once(
    demo: dict[str, dspark_local.Runtime], temperature: float, grammar: dict[str, str]
) -> None:
    """The demo pair: token for token, and log-probability for log-probability; and drafts were accepted."""
    said: dict[str, list[object]] = {"drafted": [], "plain": []}
    accepted = 0
    for who, runtime in demo.items():
        for seed, question in enumerate(QUESTIONS[::16]):
            params = SamplingParams(temperature=temperature, seed=seed, **ALL_ON, **grammar)
            done = runtime.chat([{"role": "user", "content": question}], params, max_tokens=40).result()
            assert len(done.logprobs) == len(done.tokens)
            assert [entry.token for entry in done.logprobs] == list(done.tokens)
            said[who] += [done.tokens, done.logprobs, done.reason]
            accepted += done.stats.draft_n_accepted
    assert said["drafted"] == said["plain"]
    assert accepted > 0
