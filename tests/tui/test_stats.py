"""The panel's sums, by hand."""

from __future__ import annotations

from textual.widgets import Label

from dspark_local.testing import scripted_runtime
from dspark_local.tui.widgets.bars import MARK, Bars, bar
from dspark_local.tui.widgets.facts import Facts
from dspark_local.tui.widgets.stats import StatsPanel
from dspark_local.types import Round, RoundTimes, Stats

from .driver import chatting

ROUNDS = (
    Round((1, 2, 3), (1, 2, 9), admitted=2, accepted=2, confidences=(0.8, 0.5, 0.5), width=3),
    Round((1,), (7, 8, 9), admitted=1, accepted=0, confidences=(0.4, 0.5, 0.5), width=2),
)


async def test_what_the_drafter_foresaw_stands_beside_what_came() -> None:
    """Survival is the product of confidences, over the drafts that were verified: (0.8 + 0.4) / 2, then 0.8 x 0.5."""
    stats = Stats()
    for record in ROUNDS:
        stats.add(record)
    async with chatting(scripted_runtime(), size=(100, 40)) as chat:
        panel, bars = chat.screen.query_one(StatsPanel), chat.screen.query_one(Bars)
        panel.show(stats, ROUNDS)
        await chat.pilot.pause()
        assert [round(share, 9) for share in bars.foreseen] == [0.6, 0.4]
        assert bars.shares[:2] == (0.5, 1.0)
        assert sum(line.count(MARK) for line in chat.seen().splitlines()) == 2 + 1  # one explains the others
        panel.clear()
        await chat.pilot.pause()
        assert bars.foreseen == ()
        assert MARK not in chat.seen()


async def test_the_parts_of_the_time_leave_the_prompt_out() -> None:
    """Of 4 s beside the prefill, 1 went into drafts and injection, 2 into verifying."""
    stats = Stats(rounds=1, predicted_n=1, times=RoundTimes(prefill=9, inject=0.5, draft=0.5, verify=2, host=1))
    async with chatting(scripted_runtime()) as chat:
        chat.screen.query_one(StatsPanel).show(stats, ())
        rows = dict(chat.screen.query_one("#round", Facts).rows)
        assert (rows["drafting"], rows["verifying"]) == ("25% of time", "50% of time")


async def test_without_a_drafter_nothing_is_foreseen() -> None:
    """The line that explains the mark is not there either."""
    async with chatting(scripted_runtime(drafter=False)) as chat:
        assert not chat.screen.query_one("#foreseen", Label).display


def test_a_mark_stays_on_the_bar() -> None:
    """At both ends, and without changing its width."""
    for mark, at in ((0.0, 0), (0.5, 5), (1.0, 9)):
        line = bar(0.7, 10, mark=mark).plain
        assert (len(line), line.index(MARK)) == (10, at)
