"""The ceiling of a run: its own decodes again, of the same tokens at the same depths, with nothing between them.

What is missing from it is what we add to llama.cpp: the loop, picking tokens, scheduling, text, threads.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from measure import Run
    from peer_ours import Ours
    from peer_question import Question

    from dspark_local.engine import Engine

CALLS = frozenset({"decode", "rewind", "inject", "draft"})  # of backend.base, what llama.cpp works for


@dataclass(slots=True)
class Tape:
    """The calls of one request to both models, in order; `prefilled` of them belong to its prefill."""

    calls: list[Callable[[], object]] = field(default_factory=list)
    prefilled: int = 0

    def record(self, name: str, call: Callable[..., object], arguments: tuple[Any, ...]) -> None:
        """Keep a call. Arguments stay as they are: the engine makes new ones for every round."""
        self.calls.append(lambda: call(*arguments))
        if name == "decode" and any(span.outputs is not None for span in arguments[0]):
            self.prefilled = len(self.calls)

    def play(self) -> float:
        """Seconds of all calls after the prefill, which is played first."""
        for call in self.calls[: self.prefilled]:
            call()
        rest = self.calls[self.prefilled :]
        began = time.perf_counter()
        for call in rest:
            call()
        return time.perf_counter() - began


class _Taped:
    """A Target or a Draft whose calls are written down."""

    def __init__(self, inner: object, tape: Tape) -> None:
        self._inner, self._tape = inner, tape

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever it has
        found = getattr(self._inner, name)
        if name not in CALLS:
            return found

        def taped(*arguments: Any) -> object:  # noqa: ANN401 - whatever it takes
            self._tape.record(name, found, arguments)
            return found(*arguments)

        return taped


@contextlib.contextmanager
def taped(engine: Engine) -> Iterator[Tape]:
    """A tape of what an idle engine asks of its models until the block ends."""
    tape, drafter = Tape(), engine.drafter
    target, draft = engine.target, getattr(drafter, "_draft", None)
    engine.target = _Taped(target, tape)
    if draft is not None:
        drafter._draft = _Taped(draft, tape)  # noqa: SLF001 - the drafter's door to its model, for the time of a run
    try:
        yield tape
    finally:
        engine.target = target
        if draft is not None:
            drafter._draft = draft  # noqa: SLF001 - as above


@dataclass(frozen=True, slots=True)
class Share:
    """A run and the seconds of its ceiling."""

    run: Run
    ceiling: float

    @property
    def ceiling_rate(self) -> float:
        """Tokens per second if nothing came between the decodes."""
        return (len(self.run.tokens) - 1) / self.ceiling


def against_ceiling(ours: Ours, question: Question, max_tokens: int) -> Share:
    """An answer, and straight after it its decodes alone."""
    with taped(ours.engine()) as tape:
        run = ours.answer(question, max_tokens)
    ours.engine()
    return Share(run, tape.play())
