"""What a recording says of a drafter that errs at known places."""

from __future__ import annotations

from dspark_local.bench.prompts import Prompt
from dspark_local.bench.record import record
from dspark_local.testing import scripted_runtime

PROMPT = Prompt(prompt="Hello", kind="chat", temperature=0.7)
ANSWER = "The answer is as long as it has to be."


def test_every_token_has_its_block() -> None:
    """Drafts are right up to the next place where the drafter errs, wherever the block begins."""
    with scripted_runtime(ANSWER, wrong=lambda length: length % 5 == 0) as runtime:
        policy = runtime.policy
        known = record(runtime, PROMPT, seed=1, max_tokens=20)
        assert runtime.policy is policy
    assert known is not None
    lengths = [known.depth + 1 + i for i in range(len(known))]
    assert known.accepted.tolist() == [min(7, -n % 5) for n in lengths]
    assert known.confidences.shape == (20, 7)
    assert (known.kind, known.temperature) == ("chat", 0.7)


def test_blocks_behind_the_end_count_for_nothing() -> None:
    """A perfect drafter is right up to the end of the answer, and there its drafts stop to count."""
    with scripted_runtime(ANSWER, wrong=lambda _: False) as runtime:
        known = record(runtime, PROMPT, seed=1, max_tokens=200)
    assert known is not None
    left = [len(ANSWER) - i for i in range(len(known))]  # the end token too, the first not
    assert known.accepted.tolist() == [min(7, n) for n in left]


def test_a_runtime_without_a_drafter_records_nothing() -> None:
    """There is no block to look at."""
    with scripted_runtime(ANSWER, drafter=False) as runtime:
        assert record(runtime, PROMPT, seed=1, max_tokens=20) is None
