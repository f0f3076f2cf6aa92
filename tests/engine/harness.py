"""Engines over the scripted backend, and what they say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dspark_local.backend.scripted import LogitsOf, ScriptedDraft, ScriptedTarget
from dspark_local.drafters.dspark import DSpark
from dspark_local.drafters.none import NoDrafter
from dspark_local.engine import Engine
from dspark_local.sampling.rule import Sampler
from dspark_local.scheduling.policy import Fixed
from dspark_local.types import SamplingParams

if TYPE_CHECKING:
    from dspark_local.drafters.base import Drafter
    from dspark_local.sequence import Sequence


def engine(
    target: LogitsOf,
    draft: LogitsOf | None = None,
    *,
    n_vocab: int,
    gamma: int = 7,
    slots: int = 1,
    n_ctx: int = 4096,
    n_batch: int = 512,
    fixed_width: int | None = None,
    end: int = -1,
    keep_bytes: int = 0,
) -> Engine:
    model = ScriptedTarget(target, n_vocab, n_ctx=n_ctx, n_slots=slots, n_batch=n_batch, taps=draft is not None)
    drafter: Drafter = NoDrafter() if draft is None else DSpark(ScriptedDraft(draft, n_vocab, n_slots=slots))
    return Engine(
        model, drafter, Fixed(gamma), is_end=lambda t: t == end, fixed_width=fixed_width, keep_bytes=keep_bytes
    )


def run(engine: Engine) -> None:
    """Step until nothing is left to do."""
    while engine.active:
        engine.step()


def say(engine: Engine, prompt: list[int], n: int, **params: Any) -> Sequence:
    """One request from start to end."""
    sampling = SamplingParams(seed=1, **params)
    sequence = engine.add(prompt, Sampler.of(sampling), max_tokens=n)
    run(engine)
    return sequence
