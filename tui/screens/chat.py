"""The chat: a transcript, a prompt, and the panel at its side."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual.app import SystemCommand
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.screen import Screen
from textual.widgets import Footer
from textual.widgets.markdown import MarkdownFence

from dspark_local.errors import StorageError, UsageError
from dspark_local.tui import keys
from dspark_local.tui.attachments import attached
from dspark_local.tui.export import as_json, as_markdown, write
from dspark_local.tui.messages import Failed
from dspark_local.tui.origins import Origin
from dspark_local.tui.reader import read
from dspark_local.tui.screens.conversations import ConversationsScreen
from dspark_local.tui.screens.help import HelpScreen
from dspark_local.tui.screens.machine import MachineScreen
from dspark_local.tui.screens.race import RaceScreen
from dspark_local.tui.screens.setup import SetupScreen
from dspark_local.tui.talk import Talk
from dspark_local.tui.widgets.heading import Heading
from dspark_local.tui.widgets.message import TINTS, Answer, ErrorMessage, UserMessage
from dspark_local.tui.widgets.prompt import Prompt
from dspark_local.tui.widgets.stats import StatsPanel
from dspark_local.tui.widgets.transcript import Transcript
from dspark_local.tui.wording import failure

if TYPE_CHECKING:
    from collections.abc import Iterator

    from textual import events
    from textual.app import ComposeResult

    from dspark_local.chat import Message
    from dspark_local.conversations import Conversation, Conversations
    from dspark_local.generation import Generation
    from dspark_local.runtime import Runtime
    from dspark_local.tui.messages import Answered, Submitted, Wrote
    from dspark_local.tui.settings import Settings
    from dspark_local.types import SamplingParams

WELCOME = "Ask something below.\n\nEnter sends, Ctrl+J breaks the line, F1 shows the keys."
LEGEND = Content.assemble(
    (" drafted and accepted ", TINTS[Origin.DRAFTED]), " ", (" the target's own ", TINTS[Origin.OWN])
).markup
RACE_TOKENS = 256  # enough to see who is faster
_OF_TURNS = {"edit", "regenerate", "race", "copy_answer", "copy_code", "export"}
WAY_ON = "Your message is back in the prompt: change it, or send it again. Ctrl+N starts a new chat."


class ChatScreen(Screen[None]):
    """One conversation with a loaded pair."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "stop", "Stop"),
        Binding("ctrl+c", "interrupt", "Stop, or copy a selection", show=False, priority=True),
        Binding("ctrl+n,ctrl+l", "new_chat", "New chat", priority=True),
        Binding("ctrl+o", "conversations", "Conversations", priority=True),
        Binding("ctrl+r", "regenerate", "Answer again", show=False, priority=True),
        Binding("f2", "edit", "Edit a message", show=False),
        Binding("ctrl+t", "tint", "Tint by origin", priority=True),
        Binding("f3", "race", "Race", show=False),
        Binding("f4", "machine", "Machine", show=False),
        Binding("f5", "copy_answer", "Copy the answer", show=False),
        Binding("f8", "copy_code", "Copy its last code block", show=False),
        Binding("f9", "set_up", "System message, sampling", show=False),
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

    def __init__(self, runtime: Runtime, settings: Settings, store: Conversations) -> None:
        super().__init__()
        self._runtime = runtime
        self._settings = settings
        self._store = store
        self.talk = self._begin()
        self._editing: int | None = None  # the user's turn that the next message replaces
        self._tinted = False
        self._again = 0  # how often this question was answered before
        self._generation: Generation | None = None
        self._answer: Answer | None = None
        self._stopping = False

    def compose(self) -> ComposeResult:
        """Heading, talk and panel, keys."""
        yield Heading(self._runtime.info.model)
        with Horizontal():
            with Vertical(id="talk"):
                yield Transcript(WELCOME)
                yield Prompt(self._questions)
            yield StatsPanel(self._runtime.info)
        yield Footer(show_command_palette=False)

    def on_mount(self) -> None:
        """Write at once."""
        self.query_one(Prompt).focus()

    def on_unmount(self) -> None:
        """Quitting saves."""
        self.talk.save()

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
        try:
            text = attached(message.text)
        except UsageError as error:
            self.notify(failure(error), severity="error", timeout=8, markup=False)
            self.query_one(Prompt).give_back(message.text)
            return
        if self._editing is not None:
            await self._rewind(self._editing)
        self._again = 0
        self._edit(None)
        await self.query_one(Transcript).add(UserMessage(text, len(self.talk.turns)))
        self.talk.ask(text)
        await self._answer_now()

    async def on_wrote(self, message: Wrote) -> None:
        """Grow the answer, move the figures."""
        if self._answer is None:
            return
        self.talk.write(message.text, message.thinking)
        await self._answer.write(message.runs, message.thinking)
        self.query_one(StatsPanel).show(message.stats, message.rounds)
        self.query_one(Heading).show(message.stats)

    async def on_answered(self, message: Answered) -> None:
        """Keep the turn: a stopped answer counts as far as it went."""
        if self._answer is None:
            return
        self.talk.write("", "")  # one that was stopped before it began is a turn too
        self.talk.save()
        await self._answer.finish(message.finish)
        self._end()

    async def on_failed(self, message: Failed) -> None:
        """Say why; the conversation stays as it was before the question."""
        if self._answer is None:
            return
        await self._answer.break_off()
        self._end()
        await self._give_back(message.error)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool:  # noqa: ARG002 - Textual's signature
        """There is something to stop only while it answers, and a turn to work with only when it does not."""
        if action == "stop":
            return self.answering or self._editing is not None
        return action not in _OF_TURNS or (not self.answering and bool(self.talk.turns))

    def action_stop(self) -> None:
        """End the answer after the round that runs; or leave a message as it was."""
        if self._editing is not None:
            self._edit(None)
            self.query_one(Prompt).clear()
            return
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
        """Leave the conversation, and begin another."""
        await self._show(self._begin())

    def action_conversations(self) -> None:
        """Open one that was kept."""
        self.talk.save()
        self.app.push_screen(ConversationsScreen(self._store), self._opened)

    async def action_regenerate(self) -> None:
        """Answer the last question again, with other noise; the answer before stays in the file."""
        self._again += 1
        if self._sampling.temperature == 0:
            self.notify("At temperature 0 the answer is always the same.", timeout=5)
        await self._rewind(self.talk.questions[-1] + 1)
        await self._answer_now()

    def action_edit(self) -> None:
        """Put the user's last message back into the prompt, or the one before the one that is there."""
        before = [n for n in self.talk.questions if self._editing is None or n < self._editing]
        if before:
            self._edit(before[-1])
            prompt = self.query_one(Prompt)
            prompt.text = self.talk.turns[before[-1]].content
            prompt.move_cursor(prompt.document.end)
            prompt.focus()

    async def _show(self, talk: Talk) -> None:
        self._edit(None)
        self.action_stop()
        self._end()
        self.workers.cancel_group(self, "reader")
        self.talk.save()
        self.talk = talk
        transcript = self.query_one(Transcript)
        await transcript.clear()
        for n, turn in enumerate(talk.turns):
            kept = UserMessage(turn.content, n) if turn.role == "user" else Answer(n, turn.content, turn.thinking)
            await transcript.add(kept)
        self.refresh_bindings()
        self.query_one(StatsPanel).clear()
        self.query_one(Heading).show(None)
        self.query_one(Prompt).focus()

    def action_tint(self) -> None:
        """Colour what was drafted and accepted, and what the target added; or show Markdown again."""
        self._tinted = not self._tinted
        for answer in self.query(Answer):
            answer.tint(self._tinted)
        self.query_one(Prompt).border_subtitle = LEGEND if self._tinted else ""

    def action_race(self) -> None:
        """Answer the last question plainly and with drafts, side by side."""
        settings = self.talk.settings
        limit = min(settings.max_tokens or RACE_TOKENS, RACE_TOKENS)
        self.app.push_screen(RaceScreen(self._runtime, self.talk.asked, self._sampling, limit))

    def action_machine(self) -> None:
        """What a round costs here."""
        self.app.push_screen(MachineScreen(self._runtime))

    def action_copy_answer(self) -> None:
        """The whole answer, as Markdown."""
        self._copy([answer.text for answer in self.query(Answer) if answer.text], "the answer")

    def action_copy_code(self) -> None:
        """The code block that ends the answer, or came last in it."""
        self._copy([fence.code for fence in self.query(MarkdownFence)], "the code block")

    def action_set_up(self) -> None:
        """System message and sampling of this chat."""
        self.app.push_screen(SetupScreen(self.talk.settings.system, self._sampling), self._chosen)

    def action_export(self, suffix: str) -> None:
        """Write the conversation to a file in the current folder."""
        messages = self.talk.messages
        text = as_json(messages, model=self._runtime.info.model) if suffix == ".json" else as_markdown(messages)
        try:
            path = write(Path.cwd(), self.talk.title, suffix, text)
        except OSError as error:
            self.notify(f"cannot write here: {error.strerror}", severity="error", markup=False)
        else:
            self.notify(f"written: {path.name}", markup=False)

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
        """Show the keys that are in force now."""
        self.app.push_screen(HelpScreen(keys.in_force(self, Prompt.BINDINGS, self.BINDINGS, self.app.BINDINGS)))

    def commands(self) -> Iterator[SystemCommand]:
        """For the palette: what can be done now."""
        yield from keys.commands(self, self.BINDINGS)
        if self.check_action("export", ()):
            for name, suffix in (("Markdown", ".md"), ("JSON", ".json")):
                job = partial(self.action_export, suffix)
                yield SystemCommand(f"Export to {name}", "into the folder that the program runs in", job)

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
            generation = await asyncio.to_thread(self._start, answer, self.talk.messages)
        except Exception as error:  # noqa: BLE001 - whatever it was, the screen goes on and says it
            self.post_message(Failed(error))
        else:
            await read(generation, self.post_message)

    def _start(self, answer: Answer, messages: list[Message]) -> Generation:
        settings = self.talk.settings
        sampling = replace(self._sampling, choice=self._sampling.choice + self._again)
        self._generation = generation = self._runtime.chat(messages, sampling, max_tokens=settings.max_tokens)
        if self._stopping or self._answer is not answer:  # the user was faster
            generation.cancel()
        return generation

    def _end(self) -> None:
        self._answer = None
        self.refresh_bindings()

    async def _answer_now(self) -> None:
        self._answer, self._generation, self._stopping = Answer(len(self.talk.turns)), None, False
        self._answer.tint(self._tinted)
        self.refresh_bindings()
        self.query_one(StatsPanel).begin()
        await self.query_one(Transcript).add(self._answer)
        self.run_worker(self._converse(self._answer), name="reader", group="reader")

    async def _give_back(self, error: Exception) -> None:
        at = self.talk.questions[-1]
        asked = self.talk.turns[at].content
        self.talk.rewind(at)
        await self.query_one(Transcript).add(ErrorMessage(error, WAY_ON))
        self.query_one(Prompt).give_back(asked)

    async def _rewind(self, n: int) -> None:
        self.talk.rewind(n)
        await self.query_one(Transcript).cut(n)

    def _edit(self, turn: int | None) -> None:
        self._editing = turn
        title = "" if turn is None else "Enter sends it instead · Esc leaves it"
        self.query_one(Prompt).border_title = title
        self.refresh_bindings()

    async def _opened(self, kept: Conversation | None) -> None:
        try:
            if kept:
                await self._show(self._begin(kept))
            elif self.talk.id is not None and self.talk.id not in [one.id for one in self._store.find()]:
                await self._show(self._begin())  # the list deleted the one on the screen
        except StorageError as error:
            self._warn(error)

    def _begin(self, kept: Conversation | None = None) -> Talk:
        return Talk(self._store, self._settings, model=self._runtime.info.model, warn=self._warn, kept=kept)

    @property
    def _sampling(self) -> SamplingParams:
        return self.talk.settings.sampling or self._runtime.preset

    def _chosen(self, answer: tuple[str | None, SamplingParams] | None) -> None:
        if answer:
            system, sampling = answer
            self.talk.set_up(replace(self.talk.settings, system=system, sampling=sampling))

    def _copy(self, texts: list[str], what: str) -> None:
        if texts:
            self.app.copy_to_clipboard(texts[-1])
            self.notify(f"{what} is in the clipboard", timeout=3)
        else:
            self.notify("there is none to copy", timeout=3)

    def _questions(self) -> list[str]:
        try:
            return self._store.questions()
        except StorageError:  # told where it matters: when a turn is not saved
            return [self.talk.turns[n].content for n in self.talk.questions]

    def _warn(self, error: StorageError) -> None:
        self.notify(f"not saved from here on: {failure(error)}", severity="error", timeout=15, markup=False)
