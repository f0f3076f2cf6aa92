"""What fails inside ends what it concerns, with a code, and the runtime serves on."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any

import pytest

from dspark_local import Runtime, worker
from dspark_local.backend.scripted import ScriptedVocab
from dspark_local.errors import BackendError, ClosedError, DSparkError, OutOfMemoryError
from dspark_local.testing import scripted_runtime

if TYPE_CHECKING:
    from collections.abc import Callable

    from dspark_local import Generation

ASK = [{"role": "user", "content": "hello"}]
ANSWER = "An answer of some rounds."


def outcome(generation: Generation) -> str:
    try:
        return generation.result().text
    except DSparkError as error:
        return error.code


def failing_once(call: Callable[..., Any], at: int, error: Exception) -> tuple[Callable[..., Any], list[int]]:
    """`call`, but its `at`-th use raises; and how often it was used."""
    used: list[int] = []

    def wrapped(*arguments: Any, **options: Any) -> Any:
        used.append(len(used))
        if len(used) == at + 1:
            raise error
        return call(*arguments, **options)

    return wrapped, used


@pytest.mark.parametrize("step", ["target.decode", "drafter._draft.draft", "drafter._draft.inject", "target.rewind"])
def test_an_error_at_any_step_ends_what_ran_and_nothing_else(step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """At every use of every part of the round: whoever does not get the error gets the whole text, as do all later.

    Nobody gets that of a decode, which is tried again, or goes without drafts.
    """
    errors = [BackendError("it failed"), OutOfMemoryError("no room"), MemoryError()]
    path, name = step.rsplit(".", 1)
    at = 0
    while True:
        with scripted_runtime(ANSWER, slots=2) as runtime, monkeypatch.context() as patch:
            part: Any = runtime._engine
            for attribute in path.split("."):
                part = getattr(part, attribute)
            error = errors[at % len(errors)]
            wrapped, used = failing_once(getattr(part, name), at, error)
            patch.setattr(type(part), name, lambda _, *a, w=wrapped, **o: w(*a, **o))
            code = error.code if isinstance(error, DSparkError) else "out_of_memory"
            outcomes = [outcome(g) for g in [runtime.chat(ASK) for _ in range(3)]]
            assert set(outcomes) <= {ANSWER, code}
            assert (code in outcomes) == (step == "target.rewind" and len(used) > at)
            patch.undo()
            assert [outcome(g) for g in [runtime.chat(ASK) for _ in range(3)]] == [ANSWER] * 3
        if len(used) <= at:
            break
        at += 1
    assert at > 5


def test_a_request_that_cannot_join_fails_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of `Engine.add` is that request's; those that run are not touched."""
    with scripted_runtime(ANSWER, slots=2, seconds=0.001) as runtime:
        wrapped, _ = failing_once(runtime._engine.add, 1, OutOfMemoryError("no room for one more"))
        monkeypatch.setattr(runtime._engine, "add", wrapped)
        assert [outcome(g) for g in [runtime.chat(ASK) for _ in range(3)]] == [ANSWER, "out_of_memory", ANSWER]
        assert runtime.running == 0


@pytest.mark.parametrize("method", ["add", "step", "finish", "abandon"])
def test_a_bug_of_ours_leaves_nobody_waiting(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever breaks an assertion inside, every reader is told, those that wait for a slot too."""
    monkeypatch.setattr("dspark_local.worker._logger.exception", lambda *_: None)
    runtime = scripted_runtime(ANSWER, seconds=0.002)
    if method == "abandon":  # what comes of a step that fails as a whole
        wrapped, _ = failing_once(runtime._engine.step, 0, BackendError("it failed"))
        monkeypatch.setattr(runtime._engine, "step", wrapped)

    def broken(*_: Any, **__: Any) -> None:
        assert asked.wait(60)
        raise AssertionError(method)

    asked = threading.Event()
    monkeypatch.setattr(runtime._engine, method, broken)
    generations = [runtime.chat(ASK, stop=["rounds"]) for _ in range(3)]
    asked.set()
    for generation in generations:
        with pytest.raises(BackendError, match=f"bug of ours.*{method}"):
            generation.result()
    with pytest.raises(ClosedError):
        runtime.chat(ASK)
    runtime.close()


def test_who_asks_again_at_once_does_not_wait_for_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rest comes when nobody has asked for a while, once, and at the end."""
    rests: list[int] = []
    rested = threading.Event()

    def rest() -> None:
        rests.append(1)
        rested.set()

    monkeypatch.setattr(worker, "PAUSE", 60.0)
    scripted = scripted_runtime(ANSWER)
    with Runtime(scripted._engine, ScriptedVocab(), at_rest=rest) as runtime:
        for _ in range(3):
            assert outcome(runtime.chat(ASK)) == ANSWER
        assert not rests
    assert rests == [1]
    monkeypatch.setattr(worker, "PAUSE", 0.01)
    rested.clear()
    scripted = scripted_runtime(ANSWER)
    with Runtime(scripted._engine, ScriptedVocab(), at_rest=rest) as runtime:
        outcome(runtime.chat(ASK))
        assert rested.wait(30)


def test_what_is_done_at_rest_may_fail(caplog: pytest.LogCaptureFixture) -> None:
    """It is logged, and the runtime serves on."""

    def fail() -> None:
        raise OSError("disk full")

    scripted = scripted_runtime(ANSWER)
    with Runtime(scripted._engine, ScriptedVocab(), at_rest=fail) as runtime, caplog.at_level(logging.ERROR):
        assert outcome(runtime.chat(ASK)) == ANSWER
    assert any("at rest" in record.message for record in caplog.records)
