"""Reads a generation and tells the screen, in batches, so that a fast model does not repaint it for every token."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from dspark_local.events import Finish, RoundDone, Text, Thinking
from dspark_local.tui.messages import Answered, Failed, Wrote

if TYPE_CHECKING:
    from collections.abc import Callable

    from textual.message import Message

    from dspark_local.runtime import Generation
    from dspark_local.types import Round

RATE = 20  # batches per second


async def read(generation: Generation, tell: Callable[[Message], object]) -> None:
    """Tell Wrote while it writes, then Answered or Failed. Cancelling this cancels the generation."""
    clock = asyncio.get_running_loop()
    text: list[str] = []
    thinking: list[str] = []
    rounds: list[Round] = []
    due = 0.0
    try:
        async for event in generation:
            if isinstance(event, Text):
                text.append(event.text)
            elif isinstance(event, Thinking):
                thinking.append(event.text)
            elif isinstance(event, RoundDone):
                rounds.append(event.round)
            if isinstance(event, Finish) or (isinstance(event, RoundDone) and clock.time() >= due):
                tell(Wrote("".join(text), "".join(thinking), rounds, event.stats))
                text, thinking, rounds, due = [], [], [], clock.time() + 1 / RATE
            if isinstance(event, Finish):
                tell(Answered(event))
            elif isinstance(event, RoundDone):
                await asyncio.sleep(0)  # events that wait already are read without one
    except Exception as error:  # noqa: BLE001 - whatever ended the answer, the screen goes on and says it
        if text or thinking:
            tell(Wrote("".join(text), "".join(thinking), rounds, generation.stats.snapshot()))
        tell(Failed(error))
