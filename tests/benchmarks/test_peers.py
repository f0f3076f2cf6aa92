"""Turns, ratios, cold starts, ceilings and tables of the peer run."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import pytest

from dspark_local import RoundTimes, SamplingParams, load
from dspark_local.backend.base import Span
from dspark_local.bench.prompts import Prompt
from dspark_local.scheduling.policy import Fixed
from dspark_local.testing import scripted_runtime

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))  # scripts, not a package

import peer_tables
from measure import Run
from peer_bench import policy
from peer_ceiling import Share, against_ceiling, taped
from peer_ours import Ours
from peer_question import Question, text
from peer_server import Setting
from peer_simple import Told
from peer_tables import Contest, Level
from peer_trials import Crowd, over_tasks, ratio, take_turns

PROMPT = Prompt(prompt="What does random.choice do?")


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def _run(tokens: tuple[int, ...], rate: float, rounds: int = 2) -> Run:
    return Run(tokens, (len(tokens) - 1) / rate, rounds, RoundTimes())


def test_contestants_take_turns() -> None:
    """Question by question, and every other trial backwards."""
    asked: list[tuple[str, int]] = []

    def contestant(name: str, question: int) -> int:
        asked.append((name, question))
        return 10 * question + len(asked)

    both = {name: lambda q, name=name: contestant(name, q) for name in "ab"}
    made = take_turns(both, [1, 2], 2, "test")
    forth = [("a", 1), ("b", 1), ("a", 2), ("b", 2)]
    assert asked == forth + forth[::-1]
    assert made == {"a": [[11, 23], [18, 26]], "b": [[12, 24], [17, 25]]}


def test_a_ratio_is_of_medians_and_pairs() -> None:
    """Medians of 2, 2, 100 and of 8, 8, 0.01 are 2 and 8, whose geometric mean is 4."""
    ours, theirs = [[2.0, 8.0], [200.0, 0.02], [4.0, 16.0]], [[1.0, 1.0], [2.0, 2.0], [2.0, 2.0]]
    found = ratio(ours, theirs)
    assert found.median == pytest.approx(4.0)
    assert found.low < 2.0 < found.high
    alone = ratio([[3.0]], [[2.0]])
    assert alone.median == 1.5
    assert math.isnan(alone.low)
    assert alone.shown == ("1.5x", "–")
    assert over_tasks([[1.0, 4.0]]) == 2.0


def test_every_answer_starts_cold() -> None:
    """Ours asks its models for the same decodes when the same question comes again: nothing was cached."""
    with scripted_runtime("The same answer.", policy=Fixed(3)) as runtime:
        ours = Ours("fixed:3", runtime, Fixed(3))
        question = Question.of(runtime.vocab, PROMPT)
        tapes = []
        for _ in range(2):
            with taped(ours.engine()) as tape:
                run = ours.answer(question, 100)
            tapes.append(len(tape.calls))
        assert tapes[0] == tapes[1]
        assert text(runtime.vocab, run.tokens) == "The same answer."
        crowd = ours.crowd([question, question], 100)
        assert crowd.tokens == (run.tokens, run.tokens)


def test_the_ceiling_is_every_decode_of_the_run() -> None:
    """A replay runs as many target decodes, of the same widths, as the run did; the models then stand as after it."""
    with scripted_runtime("Some words, in order.", policy=Fixed(2)) as runtime:
        ours = Ours("fixed:2", runtime, Fixed(2))
        target = ours.engine().target
        share = against_ceiling(ours, Question.of(runtime.vocab, PROMPT), 100)
        decodes = target.decodes
        half = len(decodes) // 2
        assert share.run.rounds + 1 == half  # and prefill
        assert decodes[:half] == decodes[half:]
        assert ours.runtime._engine.target is target
        assert bytes(share.run.tokens[:-1]).decode() == "Some words, in order."


def test_prefill_is_not_on_the_clock() -> None:
    """Of the decodes of a tape, those of the prompt come first and are not timed."""
    with scripted_runtime("Words.", policy=Fixed(2), seconds=0.0) as runtime:
        ours = Ours("fixed:2", runtime, Fixed(2))
        question = Question.of(runtime.vocab, PROMPT)
        with taped(ours.engine()) as tape:
            run = ours.answer(question, 100)
        timed = tape.calls[tape.prefilled :]
        assert 0 < tape.prefilled < len(tape.calls)
        # a round: inject, draft, decode, two rewinds
        assert len(timed) >= 4 * (run.rounds - 1)


def test_the_real_pair_replays_its_run() -> None:
    """In llama.cpp, a run and its ceiling end with the same logits: the replay did the same work."""
    with load("demo", policy="fixed:3", ctx_size=256, threads=1) as runtime:
        ours = Ours("fixed:3", runtime, Fixed(3))
        question = Question.of(runtime.vocab, PROMPT)
        whole = runtime.generate(question.tokens, SamplingParams(), max_tokens=16).result().tokens
        share = against_ceiling(ours, question, 12)
        assert share.run.tokens == whole[:12]
        assert share.ceiling > 0
        # the caches hold what the run left, so the text goes on from there without a prefill
        engine = runtime._engine
        depth = len(question.tokens) + 11
        (rows,) = engine.target.decode([Span(0, depth, [whole[11]])])
        assert int(rows.logits[0].argmax()) == whole[12]


GREEDY = (_run((1, 2), 10.0), _run((3, 4), 20.0))
CONTEST = Contest(
    prompts=[Prompt(prompt="a", kind="code"), Prompt(prompt="b", kind="chat"), Prompt(prompt="c", temperature=1.0)],
    theirs={
        "plain": [[*GREEDY, _run((5, 5), 40.0)]],
        "γ = 3": [[*GREEDY, _run((6, 6), 80.0)]],
    },
    simple={"γ = 3": [[Told("one and on", 3, 0.1), Told("to", 3, 0.1), Told("other", 3, 0.1)]]},
    ours={
        "plain": [[*GREEDY, _run((7, 7), 40.0)]],
        "fixed:3": [[_run((1, 2), 20.0), _run((3, 9), 40.0), _run((8, 8), 160.0)]],
        "auto": [[_run((1, 2), 40.0), _run((3, 4), 40.0), _run((8, 8), 80.0)]],
    },
    fixed={"plain": "plain", "γ = 3": "fixed:3"},
    texts={"fixed:3": ["one", "two", "other"]},
)


def test_both_sides_meet_at_the_same_setting() -> None:
    """Twice as fast at γ = 3; one of two greedy texts forked, and what was drawn hot is not compared."""
    plain, drafted = peer_tables.by_setting(CONTEST).splitlines()[2:]
    assert _cells(plain) == ["plain", "20.0", "0.50", "20.0", "0.50", "1x", "1 – 1", "2 of 2"]
    assert _cells(drafted)[3] == "50.4"
    assert _cells(drafted)[5:] == ["2x", "2 – 2", "1 of 2"]


def test_the_simple_program_may_say_more() -> None:
    """Its answer counts as the same if it begins with ours."""
    (row,) = peer_tables.by_simple(CONTEST).splitlines()[2:]
    assert _cells(row)[:4] == ["γ = 3", "30.0", "50.4", "1.68x"]
    assert _cells(row)[-1] == "1 of 2"


def test_our_choice_meets_their_best_by_kind() -> None:
    """γ = 3 is their fastest setting over all questions; each kind has a row."""
    assert peer_tables.fastest(CONTEST.theirs) == "γ = 3"
    rows = [_cells(row) for row in peer_tables.by_kind(CONTEST, "auto").splitlines()[2:]]
    assert [(row[0], row[3]) for row in rows] == [("all", "2x"), ("code", "4x"), ("chat", "2x"), ("prompt", "1x")]


def test_a_share_of_the_ceiling() -> None:
    """Four tokens behind the prompt's in two seconds, whose decodes alone take one: half of the ceiling."""
    (row,) = peer_tables.ceiling({"auto": [[Share(_run((0, 1, 2, 3, 4), 2.0), 1.0)]]}).splitlines()[2:]
    assert _cells(row) == ["auto", "2.0", "4.0", "0.5x", "–"]


def test_a_crowd_counts_all_its_tokens() -> None:
    """Both are held against the best that the other side has at that many requests."""
    crowd = [[Crowd(((1, 2), (3, 4)), seconds)] for seconds in (1.0, 0.5, 0.25)]
    level = Level(2, {"plain": [crowd[0]], "γ = 1": [crowd[1]]}, {"plain": [crowd[1]], "auto": [crowd[2]]})
    assert _cells(peer_tables.crowds([level]).splitlines()[2]) == ["2", "4.0", "8.0", "8.0", "16.0"]
    assert _cells(peer_tables.crowd_ratios([level], "auto").splitlines()[2]) == ["2", "2x", "–", "γ = 1", "2x", "–"]


def test_settings_have_our_names() -> None:
    """What llama.cpp calls n-max and p-min are fixed and threshold policies here."""
    named = [policy(s) for s in (Setting(), Setting(gamma=3), Setting(gamma=7, p_min=0.5))]
    assert named == ["plain", "fixed:3", "threshold:0.5"]
