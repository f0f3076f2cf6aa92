"""When garbage is looked for."""

from __future__ import annotations

import gc
import weakref

from dspark_local.testing import scripted_runtime

from .driver import chatting


class Ring:
    """Holds itself, so that only the collector can let go of it."""

    def __init__(self) -> None:
        self.itself = self


async def test_no_frame_waits_for_a_look_at_the_whole_heap() -> None:
    """While an answer is written there is none, and one behind it; once the chat is over, Python decides again."""
    before = gc.get_threshold()
    looks: list[bool] = []  # whether an answer was being written then

    def look(phase: str, info: dict[str, int]) -> None:
        if phase == "start" and info["generation"] == len(before) - 1:
            looks.append(chat.dialogue.answering)

    async with chatting(scripted_runtime("word " * 8)) as chat:
        await chat.until(lambda: gc.get_threshold() != before)  # what is there before that stays for good
        gc.callbacks.append(look)
        try:
            kept = Ring()
            gc.collect(1)  # it is old now
            ring = weakref.ref(kept)
            del kept
            await chat.ask("Go")
            await chat.answered()
            await chat.until(lambda: ring() is None)
        finally:
            gc.callbacks.remove(look)
        assert looks
        assert not any(looks)
    assert gc.get_threshold() == before
