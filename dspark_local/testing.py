"""Runtimes without a model, for tests: ours, and those of apps that embed dspark_local."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dspark_local.backend.scripted import (
    LogitsOf,
    ScriptedDraft,
    ScriptedTarget,
    ScriptedVocab,
    erring,
    one_hot,
)
from dspark_local.drafters.dspark import DSpark
from dspark_local.drafters.none import NoDrafter
from dspark_local.engine import Engine
from dspark_local.runtime import Runtime
from dspark_local.scheduling.policy import Fixed

if TYPE_CHECKING:
    from collections.abc import Callable

    from dspark_local.backend.base import Floats
    from dspark_local.drafters.base import Drafter
    from dspark_local.scheduling.policy import Policy

FIXED = Fixed(3)
CUE = b"assistant: "  # how ScriptedVocab's template ends


def scripted_runtime(
    answer: str = "A scripted answer.",
    *,
    wrong: Callable[[int], bool] = lambda length: length % 5 == 0,
    drafter: bool = True,
    policy: Policy = FIXED,
    seconds: float = 0.0,
    slots: int = 1,
    max_waiting: int | None = None,
    n_ctx: int = 4096,
    fail_at: int | None = None,
) -> Runtime:
    """A runtime that answers every chat with `answer`, a byte a token.

    `wrong` says at which lengths of the text the drafter errs; each decode takes `seconds`; `fail_at` is the number
    of the decode that fails, and does so again when it is tried again; `max_waiting` is that of `load`.
    """
    vocab = ScriptedVocab()
    says = _answers(answer.encode(), vocab)
    target = ScriptedTarget(
        says, vocab.n_vocab, n_ctx=n_ctx, n_slots=slots, seconds=seconds, taps=drafter, fail_at=fail_at, fails=2
    )
    proposes: Drafter = NoDrafter()
    if drafter:
        errs = erring(says, vocab.n_vocab, wrong)
        proposes = DSpark(ScriptedDraft(errs, vocab.n_vocab, n_slots=slots, seconds=seconds / 4))
    engine = Engine(target, proposes, policy, is_end=vocab.is_end)

    def plain() -> Runtime:
        return scripted_runtime(answer, drafter=False, n_ctx=n_ctx)

    return Runtime(engine, vocab, model="scripted", max_waiting=max_waiting, plain=plain)


def _answers(answer: bytes, vocab: ScriptedVocab) -> LogitsOf:
    def logits(prefix: tuple[int, ...]) -> Floats:
        text = bytes(t if t < vocab.END else 0 for t in prefix)
        at = text.rfind(CUE)
        said = len(text) - at - len(CUE)
        if at < 0 or text[len(text) - said :] != answer[:said]:
            return np.zeros(vocab.n_vocab, np.float32)
        return one_hot(vocab.n_vocab, answer[said] if said < len(answer) else vocab.END)

    return logits
