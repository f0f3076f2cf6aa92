"""How long the chat's screen keeps its event loop while a scripted model writes, thinks, is read and loads.

A task that wants to wake every 5 ms notes how late it does: what a key would wait. On a machine that others use too,
that says little, so it also notes the processor time that the loop's thread spent between two wakings: its own work.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from contextlib import suppress
from typing import TYPE_CHECKING, cast

from dspark_local.bench.tables import table
from dspark_local.conversations import Conversations
from dspark_local.testing import scripted_runtime
from dspark_local.tui import Settings
from dspark_local.tui.app import ChatApp
from dspark_local.tui.screens.chat import ChatScreen

if TYPE_CHECKING:
    from collections.abc import Callable

TICK = 0.005  # seconds
FRAME = 50  # milliseconds
BYTES = 4  # of a token
PARAGRAPH = (
    "A *drafter* proposes tokens and the **target** checks them in `one` decode:\n\n"
    "```python\nfor token in drafted:\n    print(token)\n```\n\n- one\n- two\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n"
)
CODE = 'def accepted(drafted: int, of: int) -> float:\n    """A share."""\n    return drafted / of\n\n\n'


class Lateness:
    """Milliseconds by which ticks came late, and that the thread worked between them."""

    def __init__(self) -> None:
        self.late: list[float] = []
        self.work: list[float] = []

    async def watch(self) -> None:
        """Until it is cancelled."""
        while True:
            due, worked = time.perf_counter() + TICK, time.thread_time()
            await asyncio.sleep(TICK)
            self.work.append(1000 * (time.thread_time() - worked))
            self.late.append(1000 * (time.perf_counter() - due))

    def row(self, name: str) -> list[str]:
        """Median, 99th percentile, most, and how many were beyond a frame of 50 ms."""
        cells = [name]
        for found in (self.late, self.work):
            ms = sorted(found)
            cells += [f"{one:.1f}" for one in (statistics.median(ms), ms[int(0.99 * (len(ms) - 1))], ms[-1])]
            cells.append(f"{sum(one > FRAME for one in ms)} of {len(ms)}")
        return cells


def main() -> None:
    """Print a row a case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=200.0, help="tokens per second of the scripted model")
    parser.add_argument("--tokens", type=int, default=2000, help="of an answer, of four bytes each")
    parser.add_argument("--size", default="120x40")
    options = parser.parse_args()
    columns, rows = map(int, options.size.split("x"))
    size = BYTES * options.tokens
    text = (PARAGRAPH * (1 + size // len(PARAGRAPH)))[:size]
    cases = {
        "Markdown": ("", text),
        "tinted": ("ctrl+t", text),
        "code": ("", f"```python\n{CODE * (size // len(CODE))}```\n"),
        "thinking": ("", f"<think>{'so it is, ' * (size // 10)}</think>Yes."),
    }
    found = [asyncio.run(_case(name, key, said, options.rate, (columns, rows))) for name, (key, said) in cases.items()]
    print(f"{options.rate:g} tokens/s, {options.tokens} tokens, {options.size}; milliseconds late, and of work")
    head = ["median", "99 %", "most", f"> {FRAME} ms"]
    print(table(["case", *head, *(f"work: {name}" for name in head)], found))


async def _case(name: str, key: str, text: str, rate: float, size: tuple[int, int]) -> list[str]:
    # a scripted token is a byte: rounds of four, all accepted, are to the screen what tokens of a real model are
    seconds = 0.8 / rate  # a draft takes a quarter of a decode
    runtime = scripted_runtime(text, wrong=lambda _: False, seconds=seconds, n_ctx=2 * len(text) + 512)
    app = ChatApp(lambda _choice, _progress: runtime, Settings(), lambda: Conversations(None))
    lateness = Lateness()
    try:
        async with app.run_test(size=size) as pilot:
            await _until(lambda: isinstance(app.screen, ChatScreen))
            dialogue = cast("ChatScreen", app.screen).dialogue
            if key:
                await pilot.press(key)
            await pilot.press(*"Go", "enter")
            watching = asyncio.create_task(lateness.watch())
            await _until(lambda: len(dialogue.talk.turns) == 2 and not dialogue.answering)
            watching.cancel()
            with suppress(asyncio.CancelledError):
                await watching
    finally:
        app.close()
    return lateness.row(name)


async def _until(fact: Callable[[], bool]) -> None:
    while not fact():  # noqa: ASYNC110 - a screen tells nobody
        await asyncio.sleep(0.05)


if __name__ == "__main__":
    main()
