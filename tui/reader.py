"""Reads a generation and tells the screen, in batches, so that a fast model does not repaint it for every token."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from dspark_local.events import Finish, RoundDone, Text, Thinking, ToolCall
from dspark_local.tui.messages import Answered, Failed, Wrote
from dspark_local.tui.origins import Origin, Origins, merged

if TYPE_CHECKING:
    from collections.abc import Callable

    from dspark_local.generation import Generation
    from dspark_local.tui.messages import Told
    from dspark_local.types import Round

RATE = 20  # batches per second


async def read(generation: Generation, tell: Callable[[Told], object], *, within_thoughts: bool = False) -> None:
    """Tell Wrote while it writes, then Answered or Failed. Cancelling this cancels the generation.

    `within_thoughts`: it goes on with an answer that was cut there.
    """
    clock = asyncio.get_running_loop()
    origins = Origins(generation.vocab.piece, thinking=within_thoughts)
    said: list[Text | Thinking] = []  # of the round that is not over
    runs: list[tuple[str, Origin]] = []
    thinking: list[str] = []
    rounds: list[Round] = []
    due = 0.0
    try:
        async for event in generation:
            if isinstance(event, Text | Thinking | ToolCall):
                said += [] if isinstance(event, ToolCall) else [event]  # the chat offers no tools
                continue
            if isinstance(event, RoundDone):
                rounds.append(event.round)
                origins.tell(event.round)
            for piece in said:
                taken = origins.take(piece.text)
                if isinstance(piece, Text):
                    runs += taken
                else:
                    thinking.append(piece.text)
            said = []
            if isinstance(event, Finish) or clock.time() >= due:
                tell(Wrote(merged(runs), "".join(thinking), rounds, event.stats))
                runs, thinking, rounds, due = [], [], [], clock.time() + 1 / RATE
            if isinstance(event, Finish):
                tell(Answered(event))
            else:
                await asyncio.sleep(0)  # events that wait already are read without one
    except Exception as error:  # noqa: BLE001 - whatever ended the answer, the screen goes on and says it
        if runs or thinking:
            tell(Wrote(merged(runs), "".join(thinking), rounds, generation.stats))
        tell(Failed(error))
