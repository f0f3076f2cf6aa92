"""The chat: a transcript, a prompt, and the panel at its side."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.screen import Screen
from textual.widgets import Footer

from dspark_local.chat import Message
from dspark_local.tui.messages import Failed
from dspark_local.tui.reader import read
from dspark_local.tui.screens.help import HelpScreen
from dspark_local.tui.widgets.heading import Heading
from dspark_local.tui.widgets.message import Answer, ErrorMessage, UserMessage
from dspark_local.tui.widgets.prompt import Prompt
from dspark_local.tui.widgets.stats import StatsPanel
from dspark_local.tui.widgets.transcript import Transcript

if TYPE_CHECKING:
    from textual import events
    from textual.app import ComposeResult

    from dspark_local.runtime import Generation, Runtime
    from dspark_local.tui.messages import Answered, Submitted, Wrote
    from dspark_local.tui.settings import Settings

WELCOME = "Ask something below.\n\nEnter sends, Ctrl+J breaks the line, F1 shows the keys."
WAY_ON = "Your message is back in the prompt: change it, or send it again. Ctrl+N starts a new chat."


class ChatScreen(Screen[None]):
    """One conversation with a loaded pair."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "stop", "Stop"),
        Binding("ctrl+c", "interrupt", "Stop, or copy a selection", show=False, priority=True),
        Binding("ctrl+n,ctrl+l", "new_chat", "New chat", priority=True),
        Binding("ctrl+b", "toggle_panel", "Panel", priority=True),
        Binding("pageup", "scroll(-1)", "Scroll up", show=False, priority=True),
        Binding("pagedown", "scroll(1)", "Scroll down", show=False, priority=True),
        Binding("f1", "help", "Help"),
    ]
    DEFAULT_CSS = """
    ChatScreen {
        #talk { width: 1fr; }
        Prompt { margin: 0 1; }
        StatsPanel { display: none; }
        &.-wide StatsPanel { display: block; }
        &.-panel-hidden StatsPanel { display: none; }
        &.-panel-shown StatsPanel { display: block; }
    }
    """

    def __init__(self, runtime: Runtime, settings: Settings) -> None:
        super().__init__()
        self._runtime = runtime
        self._settings = settings
        self._turns = self._beginning()
        self._generation: Generation | None = None
        self._answer: Answer | None = None
        self._stopping = False

    def compose(self) -> ComposeResult:
        """Heading, talk and panel, keys."""
        yield Heading(self._runtime.info.model)
        with Horizontal():
            with Vertical(id="talk"):
                yield Transcript(WELCOME)
                yield Prompt()
            yield StatsPanel(self._runtime.info)
        yield Footer(show_command_palette=False)

    def on_mount(self) -> None:
        """Write at once."""
        self.query_one(Prompt).focus()

    @property
    def answering(self) -> bool:
        """Whether an answer is being written."""
        return self._answer is not None

    async def on_submitted(self, message: Submitted) -> None:
        """Ask the model, unless it still answers."""
        if self.answering:
            self.notify("Still answering; Esc stops it.", timeout=3)
            self.query_one(Prompt).give_back(message.text)
            return
        await self.query_one(Transcript).add(UserMessage(message.text))
        self._turns.append(Message("user", message.text))
        self._answer, self._generation, self._stopping = Answer(), None, False
        self.refresh_bindings()
        self.query_one(StatsPanel).begin()
        await self.query_one(Transcript).add(self._answer)
        self.run_worker(self._converse(self._answer), name="reader", group="reader")

    async def on_wrote(self, message: Wrote) -> None:
        """Grow the answer, move the figures."""
        if self._answer is None:
            return
        await self._answer.write(message.text, message.thinking)
        self.query_one(StatsPanel).show(message.stats, message.rounds)
        self.query_one(Heading).show(message.stats)

    async def on_answered(self, message: Answered) -> None:
        """Keep the turn: a stopped answer counts as far as it went."""
        if self._answer is None:
            return
        await self._answer.finish(message.finish)
        self._turns.append(Message("assistant", message.finish.text))
        self._end()

    async def on_failed(self, message: Failed) -> None:
        """Say why; the conversation stays as it was before the question."""
        if self._answer is None:
            return
        await self._answer.break_off()
        self._end()
        await self._give_back(message.error)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool:  # noqa: ARG002 - Textual's signature
        """There is something to stop only while it answers."""
        return action != "stop" or self.answering

    def action_stop(self) -> None:
        """End the answer after the round that runs."""
        self._stopping = True
        if self._generation:
            self._generation.cancel()

    def action_interrupt(self) -> None:
        """Ctrl+C: stop the answer; or copy; or say how to leave."""
        if self.answering:
            self.action_stop()
        elif selected := self.get_selected_text() or self.query_one(Prompt).selected_text:
            self.app.copy_to_clipboard(selected)
        else:
            self.notify("Ctrl+Q leaves; Ctrl+C stops an answer.", timeout=3)

    async def action_new_chat(self) -> None:
        """Forget the conversation."""
        self._end()
        self.action_stop()
        self.workers.cancel_group(self, "reader")
        self._turns = self._beginning()
        await self.query_one(Transcript).clear()
        self.query_one(StatsPanel).clear()
        self.query_one(Heading).show(None)
        self.query_one(Prompt).focus()

    def action_toggle_panel(self) -> None:
        """Show or hide the panel, whatever the width says."""
        shown = self.query_one(StatsPanel).display
        self.set_class(shown, "-panel-hidden")
        self.set_class(not shown, "-panel-shown")

    def action_scroll(self, pages: int) -> None:
        """Leaf through the transcript, with the prompt keeping the focus."""
        transcript = self.query_one(Transcript)
        transcript.scroll_page_up() if pages < 0 else transcript.scroll_page_down()

    def action_help(self) -> None:
        """Show the keys that are in force now: ours, for those of every text area are as everywhere."""
        tables = (Prompt.BINDINGS, self.BINDINGS, self.app.BINDINGS)
        ours = [binding.action for table in tables for binding in Binding.make_bindings(table)]
        active = [b for b in self.active_bindings.values() if b.binding.action in ours]
        self.app.push_screen(HelpScreen(sorted(active, key=lambda b: ours.index(b.binding.action))))

    def on_key(self, event: events.Key) -> None:
        """Typing goes to the prompt, wherever a click has left the focus."""
        prompt = self.query_one(Prompt)
        if event.is_printable and event.character and self.focused is not prompt:
            event.stop()
            prompt.focus()
            prompt.insert(event.character)

    async def _converse(self, answer: Answer) -> None:
        try:
            # On a thread, for a long text takes seconds to tokenise.
            generation = await asyncio.to_thread(self._start, answer, self._turns[:])
        except Exception as error:  # noqa: BLE001 - whatever it was, the screen goes on and says it
            self.post_message(Failed(error))
        else:
            await read(generation, self.post_message)

    def _start(self, answer: Answer, turns: list[Message]) -> Generation:
        settings = self._settings
        self._generation = generation = self._runtime.chat(turns, settings.sampling, max_tokens=settings.max_tokens)
        if self._stopping or self._answer is not answer:  # the user was faster
            generation.cancel()
        return generation

    def _end(self) -> None:
        self._answer = None
        self.refresh_bindings()

    async def _give_back(self, error: Exception) -> None:
        asked = self._turns.pop().content
        await self.query_one(Transcript).add(ErrorMessage(error, WAY_ON))
        self.query_one(Prompt).give_back(asked)

    def _beginning(self) -> list[Message]:
        return [Message("system", self._settings.system)] if self._settings.system else []
