"""The same prompt and seed, decoded plainly and with drafts: what speculation gains, and that the text is the same."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static

from dspark_local.tui.messages import Answered, Failed, Wrote
from dspark_local.tui.prose.plain import Plain
from dspark_local.tui.reader import read
from dspark_local.tui.widgets.keyline import KeyLine
from dspark_local.tui.widgets.message import painted
from dspark_local.tui.widgets.prose import Prose
from dspark_local.tui.wording import failure, verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from textual.app import ComposeResult

    from dspark_local.chat import Message
    from dspark_local.events import Finish
    from dspark_local.runtime import Runtime
    from dspark_local.tui.messages import Told
    from dspark_local.tui.origins import Runs
    from dspark_local.types import SamplingParams


class Lane(Vertical):
    """One of the two, while it runs and after."""

    DEFAULT_CSS = """
    Lane {
        width: 1fr; border: round $foreground 30%; border-title-style: bold; padding: 0 1;
        .speed { color: $primary; text-style: bold; }
        VerticalScroll { height: 1fr; scrollbar-size-vertical: 1; }
        .text { min-height: 100%; }  /* or an anchored view would put it at the bottom */
    }
    """

    def __init__(self, title: str, waits: str) -> None:
        super().__init__()
        self.border_title = title
        self.finish: Finish | None = None
        self._speed = Static(waits, markup=False, classes="speed")
        self.text = Prose(Plain(), classes="text")

    def compose(self) -> ComposeResult:
        """Speed above text."""
        yield self._speed
        with VerticalScroll(can_focus=False) as scroll:
            scroll.anchor()
            yield self.text

    def say(self, words: str) -> None:
        """In place of a speed."""
        self._speed.update(words)

    def write(self, runs: Runs, speed: float) -> None:
        """What came, and how fast so far."""
        self.text.write(painted(runs))
        self._speed.update(f"{speed:.1f} tok/s")


class RaceScreen(ModalScreen["float | None"]):
    """Plain first, then with drafts: at once they would slow each other down. Answers with plain tokens per second."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "Back", priority=True),
        Binding("f3,ctrl+c", "leave", show=False, priority=True),
    ]
    DEFAULT_CSS = """
    RaceScreen {
        background: $background;
        #verdict { height: auto; padding: 0 2; text-style: bold; color: $primary; }
    }
    """

    def __init__(
        self, runtime: Runtime, messages: Sequence[Message], sampling: SamplingParams, max_tokens: int
    ) -> None:
        super().__init__()
        self._runtime = runtime
        self._messages = messages
        self._sampling = sampling if sampling.seed is not None else replace(sampling, seed=0)
        self._max_tokens = max_tokens
        self._plain = Lane("plain", "getting ready …")
        self._drafted = Lane(runtime.info.drafter, "waits for its turn")
        self._verdict = Static("one after the other, with the same prompt and seed", markup=False, id="verdict")

    def compose(self) -> ComposeResult:
        """Two lanes, and who won."""
        with Horizontal():
            yield self._plain
            yield self._drafted
        yield self._verdict
        yield KeyLine()

    def on_mount(self) -> None:
        """Go."""
        self.run_worker(self._race(), name="race")

    def action_leave(self) -> None:
        """Whatever still runs is cancelled with its reader."""
        plain = self._plain.finish
        self.dismiss(plain.stats.tokens_per_second if plain else None)

    async def _race(self) -> None:
        try:
            plain = await asyncio.to_thread(self._runtime.plain)
            try:
                await self._run(self._plain, plain)
            finally:
                await asyncio.to_thread(plain.close)
            if self._plain.finish:
                await self._run(self._drafted, self._runtime)
        except Exception as error:  # noqa: BLE001 - whatever it was, the screen goes on and says it
            self._verdict.update(failure(error))
        if self._plain.finish and self._drafted.finish:
            self._verdict.update(verdict(self._plain.finish, self._drafted.finish))

    async def _run(self, lane: Lane, runtime: Runtime) -> None:
        lane.say("reading the prompt …")
        start = partial(runtime.chat, self._messages, self._sampling, max_tokens=self._max_tokens)
        await read(await asyncio.to_thread(start), partial(self._told, lane))

    def _told(self, lane: Lane, told: Told) -> None:
        if isinstance(told, Wrote):
            lane.write(told.runs, told.stats.tokens_per_second)
        elif isinstance(told, Answered):
            lane.finish = told.finish
        elif isinstance(told, Failed):
            self._verdict.update(failure(told.error))
