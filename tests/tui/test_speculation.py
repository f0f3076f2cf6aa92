"""Where speculation can be seen: the tint, the race, the machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from dspark_local.events import Finish
from dspark_local.scheduling.cost import CostTable
from dspark_local.scheduling.curve import Curve
from dspark_local.scheduling.scheduler import Auto
from dspark_local.testing import scripted_runtime
from dspark_local.tui.origins import Origin
from dspark_local.tui.screens.chat import ChatScreen
from dspark_local.tui.screens.machine import MachineScreen
from dspark_local.tui.screens.race import RaceScreen
from dspark_local.tui.wording import costs, verdict
from dspark_local.types import FinishReason, RoundTimes, Stats

from .driver import Chat, chatting

if TYPE_CHECKING:
    from dspark_local.runtime import Runtime

ANSWER = "It *removes* common margins."
LONG = "word " * 1000
SLOW = 0.02


def spans(chat: Chat) -> list[tuple[str, bool]]:
    """Runs of the tinted answer, and whether each is tinted as drafted."""
    contents = [row.content for row in chat.answers[-1].prose.document.blocks]
    return [(one.plain[s.start : s.end], "success" in str(s.style)) for one in contents for s in one.spans]


async def test_the_tint_shows_who_proposed_what() -> None:
    """Runs of drafted and of own characters, as the rounds committed them; the key shows Markdown again."""
    async with chatting(scripted_runtime(ANSWER)) as chat:
        await chat.press("ctrl+t")
        await chat.ask("What?")
        await chat.answered()
        runs = chat.answers[-1].runs
        assert "".join(text for text, _ in runs) == ANSWER
        assert {origin for _, origin in runs} == {Origin.DRAFTED, Origin.OWN}
        assert spans(chat) == [(text, origin is Origin.DRAFTED) for text, origin in runs]
        seen = chat.seen()
        assert ANSWER in seen
        assert "drafted, accepted" in seen
        await chat.press("ctrl+t")
        await chat.pilot.pause()
        assert "It removes common margins." in chat.seen()
        assert "drafted, accepted" not in chat.seen()


async def test_without_a_drafter_all_is_the_targets_own() -> None:
    """Nothing is tinted as drafted that was not."""
    async with chatting(scripted_runtime(ANSWER, drafter=False)) as chat:
        await chat.ask("What?")
        await chat.answered()
        await chat.press("ctrl+t")
        await chat.pilot.pause()
        assert spans(chat) == [(ANSWER, False)]


@pytest.mark.parametrize("size", [(100, 30), (60, 20)])
async def test_a_race_ends_with_same_text_and_the_ratio(size: tuple[int, int]) -> None:
    """Both lanes hold the answer, and the plain runtime is closed again."""
    runtime, made = scripted_runtime(ANSWER, seconds=0.001), []
    plain = runtime.plain

    def listening() -> Runtime:
        made.append(plain())
        return made[0]

    runtime.plain = listening
    async with chatting(runtime, size=size) as chat:
        await chat.ask("What?")
        await chat.answered()
        screen = await chat.open("f3", RaceScreen)
        await chat.until(lambda: "same text: yes" in str(screen._verdict.content))
        await chat.pilot.pause()
        assert "× plain (" in str(screen._verdict.content)
        assert screen._plain.finish.text == screen._drafted.finish.text == ANSWER
        assert screen._plain.finish.stats.draft_n == 0
        assert screen._drafted.finish.stats.draft_n > 0
        assert chat.seen().count("It *removes*") == 2
        assert not made[0]._worker._thread.is_alive()
        await chat.press("escape")
        assert chat.screen


async def test_leaving_a_race_ends_it() -> None:
    """The plain runtime is closed, and the chat answers again."""
    runtime, made = scripted_runtime(LONG, seconds=SLOW), []
    runtime.plain = lambda: made.append(scripted_runtime(LONG, seconds=SLOW, drafter=False)) or made[0]
    async with chatting(runtime) as chat:
        await chat.ask("Go")
        await chat.press("escape")
        await chat.answered()
        screen = await chat.open("f3", RaceScreen)
        await chat.until(lambda: bool(screen._plain.text.document.blocks))
        await chat.press("escape")
        await chat.until(lambda: not made[0]._worker._thread.is_alive())
        assert isinstance(chat.app.screen, ChatScreen)
        await chat.ask("Again")
        await chat.until(lambda: bool(chat.answers[-1].text))
        await chat.press("escape")
        await chat.answered()


async def test_a_race_that_cannot_start_says_why() -> None:
    """What the runtime refuses is a line on the screen."""
    runtime = scripted_runtime(ANSWER)
    runtime._plain = None
    async with chatting(runtime) as chat:
        await chat.ask("What?")
        await chat.answered()
        screen = await chat.open("f3", RaceScreen)
        await chat.until(lambda: "no plain one beside it" in str(screen._verdict.content))


def finish(tokens: tuple[int, ...], seconds: float) -> Finish:
    stats = Stats(predicted_n=len(tokens), times=RoundTimes(verify=seconds))
    return Finish(FinishReason.STOP, "", tokens, stats)


def test_the_verdict_tells_the_ratio_and_where_texts_part() -> None:
    """Twice the speed is 2.00 ×; a fork is told by its token, a text that ends early too."""
    assert verdict(finish((1, 2, 3), 3.0), finish((1, 2, 3), 1.5)) == (
        "same text: yes · 2.00 × plain (2.0 against 1.0 tok/s, 3 tokens)"
    )
    assert "same text: no, from token 2 on" in verdict(finish((1, 2, 3), 3.0), finish((1, 9, 3), 1.5))
    assert "same text: no, from token 3 on" in verdict(finish((1, 2, 3), 3.0), finish((1, 2), 1.5))
    assert "too short to tell" in verdict(finish((), 0.0), finish((), 0.0))


def table(decode: list[float], draft: list[float]) -> CostTable:
    free = Curve([0.0] * 8)
    return CostTable({0: Curve(decode)}, Curve(draft), free, free)


def test_the_sentence_names_the_block_that_needs_the_least() -> None:
    """By hand: 1 draft costs 1.5 + 0.2 tokens and needs 70 %; 2 cost 1.6 + 0.4 and need 50 %."""
    said = costs(table([1.0, 1.5, 1.6], [0.2, 0.4]), 2)
    assert said.startswith("Here drafting and verifying 2 tokens costs as much as 2.00 plain tokens")
    assert "more than 50% of its drafts" in said
    assert "pays whatever is accepted" in costs(table([1.0, 0.5, 0.5], [0.2, 0.2]), 2)
    assert "plain decoding is faster whatever is accepted" in costs(table([1.0, 2.0, 3.0], [0.5, 0.6]), 2)


async def test_the_machine_screen_draws_the_curves() -> None:
    """Seconds and ratios as the table has them; without a table it says so."""
    auto = Auto(table([0.010, 0.015, 0.016], [0.002, 0.004]), gamma=2)
    async with chatting(scripted_runtime(ANSWER, policy=auto), size=(60, 20)) as chat:
        await chat.open("f4", MachineScreen)
        seen = chat.seen()
        assert "10.00 ms   1.00 ×" in seen
        assert "16.00 ms   1.60 ×" in seen
        assert "4.00 ms   0.40 ×" in seen
        await chat.press("escape")
        assert chat.screen
    async with chatting(scripted_runtime(ANSWER)) as chat:
        await chat.open("f4", MachineScreen)
        assert "no costs" in chat.seen()
