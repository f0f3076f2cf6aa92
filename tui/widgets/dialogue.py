"""What is said: the transcript, the prompt below it, and the answer that is being written."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType

from dspark_local.errors import ClosedError, StorageError, UsageError
from dspark_local.tui import attachments, commands
from dspark_local.tui.attachments import attached
from dspark_local.tui.messages import Begun, Commanded, Shown
from dspark_local.tui.talk import Talk
from dspark_local.tui.widgets.message import Answer, ErrorMessage, UserMessage
from dspark_local.tui.widgets.offers import Offers
from dspark_local.tui.widgets.prompt import Prompt
from dspark_local.tui.widgets.reading import Reading
from dspark_local.tui.widgets.transcript import Transcript
from dspark_local.tui.wording import failure
from dspark_local.tui.writing import Writing

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from textual.app import ComposeResult

    from dspark_local.conversations import Conversation, Conversations
    from dspark_local.generation import Generation
    from dspark_local.runtime import Runtime
    from dspark_local.tui.messages import Answered, Branched, Failed, Submitted, Told, Wrote
    from dspark_local.tui.settings import Settings
    from dspark_local.types import SamplingParams

WELCOME = "Ask something below.\n\nEnter sends, Ctrl+J breaks the line,\n/ gives commands, F1 shows the keys."
WAY_ON = "Your message is back in the prompt: change it, or send it again. Ctrl+N starts a new chat."
RELOAD = "F6 loads the model again, or another one; the chat stays."
_OF_TURNS = {"edit", "regenerate", "go_on", "branch"}


class Dialogue(Reading):
    """One conversation, and the runtime that answers in it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "stop", "Stop"),
        Binding("ctrl+c", "interrupt", "Stop, or copy a selection", show=False, priority=True),
        Binding("ctrl+r", "regenerate", "Answer again", show=False, priority=True),
        Binding("f7", "go_on", "Go on with the last answer", show=False, priority=True),
        Binding("f2", "edit", "Edit a message", show=False),
        Binding("alt+left", "branch(-1)", "Earlier version of a message", show=False, priority=True),
        Binding("alt+right", "branch(1)", "Later version of it", show=False, priority=True),
    ]
    DEFAULT_CSS = """
    Dialogue { width: 1fr; Prompt { margin: 0 1; } }
    """

    def __init__(
        self,
        runtime: Runtime,
        settings: Settings,
        store: Conversations,
        values: Mapping[str, Callable[[], Sequence[str]]],
    ) -> None:
        """`values`: what completes the arguments of commands, by what they take."""
        super().__init__()
        self.runtime = runtime
        self._settings = settings
        self._store = store
        self._values = values
        self.talk = self._begin()
        self._editing: int | None = None  # the user's turn that the next message replaces
        self._writing: Writing | None = None
        self._answer: Answer | None = None

    def compose(self) -> ComposeResult:
        """Turns, commands while one is typed, prompt."""
        yield Transcript(WELCOME)
        yield Offers()
        yield Prompt(self._questions, self._completed)

    def on_mount(self) -> None:
        """Write at once."""
        self.prompt.focus()

    def on_unmount(self) -> None:
        """Quitting saves."""
        self.talk.save()

    @property
    def answering(self) -> bool:
        """Whether an answer is being written."""
        return self._writing is not None

    @property
    def sampling(self) -> SamplingParams:
        """How the next answer is drawn."""
        return self.talk.settings.sampling or self.runtime.preset

    # What the prompt and the reader tell

    async def on_submitted(self, message: Submitted) -> None:
        """Obey a command, or ask the model, unless it still answers."""
        try:
            if command := commands.given(message.text):
                self.post_message(Commanded(*command))
                return
            text = attached(message.text)
        except UsageError as error:
            self.notify(failure(error), severity="error", timeout=8, markup=False)
            self.prompt.give_back(message.text)
            return
        if self.answering:
            self.notify("Still answering; Esc stops it.", timeout=3)
            self.prompt.give_back(message.text)
            return
        if self._editing is not None:
            await self._rewind(self._editing)
        self._edit(None)
        question = UserMessage(text, len(self.talk.turns))
        await self.transcript.add(question)
        self.talk.ask(text)
        self._place(question.turn)
        await self._answer_now()

    def on_text_area_changed(self) -> None:
        """Show which commands the text may become."""
        self.query_one(Offers).show(commands.matching(self.prompt.text))

    async def on_wrote(self, message: Wrote) -> None:
        """Grow the answer."""
        if self._current(message) and self._answer:
            self.talk.write(message.text, message.thinking)
            self._answer.write(message.runs, message.thinking)

    async def on_answered(self, message: Answered) -> None:
        """Keep the turn: a stopped answer counts as far as it went."""
        if self._current(message) and self._answer:
            self.talk.write("", "")  # one that was stopped before it began is a turn too
            self.talk.save()
            self._answer.finish(message.finish)
            self._place(self._answer.turn)
            self._end()

    async def on_failed(self, message: Failed) -> None:
        """Say why; a question that got no answer goes back to the prompt, an answer that was to go on stays."""
        if not self._current(message) or self._answer is None:
            return
        self._answer.break_off()
        way_on = RELOAD if isinstance(message.error, ClosedError) or self.runtime.closed else ""
        if self._answer.has_class("-continued"):
            self.talk.save()
        else:
            at = self.talk.questions[-1]
            self.prompt.give_back(self.talk.turns[at].content)
            self.talk.rewind(at)
            way_on = way_on or WAY_ON
        self._end()
        await self.transcript.add(ErrorMessage(message.error, way_on))

    async def on_branched(self, message: Branched) -> None:
        """Show another version, unless an answer is being written."""
        if not self.answering:
            await self._switch(message.turn, message.by)

    async def on_recalled(self) -> None:
        """Show more of what was said before."""
        await self.transcript.recall(self.talk.turns, self.talk.place, tinted=self.tinted)

    # What keys and commands do

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool:  # noqa: ARG002 - Textual's signature
        """There is something to stop only while it answers, and a turn to work with only when there is one."""
        if action == "stop":
            return self.answering or self._editing is not None or self.transcript.marked is not None
        if action not in _OF_TURNS:
            return True
        turns = self.talk.turns
        return bool(turns) and not self.answering and (action != "go_on" or turns[-1].role != "user")

    def action_stop(self) -> None:
        """End the answer after the round that runs; or leave a message as it was; or leave the mark."""
        if self._writing and self._answer:
            self._answer.say("stopping …")
            self._writing.stop()
        elif self._editing is not None:
            self._edit(None)
            self.prompt.clear()
        else:
            self.transcript.mark(None)
            self.transcript.anchor()
        self.refresh_bindings()

    def action_interrupt(self) -> None:
        """Ctrl+C: stop the answer; or copy; or say how to leave."""
        if self.answering:
            self.action_stop()
        elif selected := self.screen.get_selected_text() or self.prompt.selected_text:
            self.app.copy_to_clipboard(selected)
        else:
            self.notify("Ctrl+Q leaves; Ctrl+C stops an answer.", timeout=3)

    async def action_regenerate(self) -> None:
        """Answer the last question again, with other noise; the answer before stays as another version."""
        at = self.talk.questions[-1] + 1
        before = self.talk.place(at)[1] if at < len(self.talk.turns) else 0
        if self.sampling.temperature == 0:
            self.notify("At temperature 0 the answer is always the same.", timeout=5)
        await self._rewind(at)
        await self._answer_now(choice=before)

    async def action_go_on(self) -> None:
        """Go on with an answer that was stopped, or cut at a limit; one that had ended ends again."""
        answer = self.transcript.answers[-1]
        answer.add_class("-continued")
        await self._write(answer, choice=self.talk.place(answer.turn)[0] - 1, begun=self.talk.begun)

    def action_edit(self) -> None:
        """Put the user's last message back into the prompt, or the one before it; or the one that is marked."""
        marked = self.transcript.marked
        if isinstance(marked, UserMessage) and self._editing is None:
            before = [marked.turn]
        else:
            before = [n for n in self.talk.questions if self._editing is None or n < self._editing]
        if before:
            self._edit(before[-1])
            self.prompt.write(self.talk.turns[before[-1]].content)
            self.prompt.focus()

    async def action_branch(self, by: int) -> None:
        """Another version of the turn that is marked; or of the last that has several."""
        marked = self.transcript.marked
        turns = [marked.turn] if marked else reversed(range(len(self.talk.turns)))
        several = next((n for n in turns if self.talk.place(n)[1] > 1), None)
        if several is None:
            self.notify("There is one version only: Ctrl+R answers again, F2 changes a message.", timeout=5)
        else:
            await self._switch(several, by)

    async def show(self, kept: Conversation | None = None) -> None:
        """Another conversation, or a new one. Raises StorageError when it cannot be read."""
        talk = self._begin(kept)
        self._edit(None)
        if self._writing:
            self._writing.stop()
        self._end()
        self.workers.cancel_group(self, "reader")
        self.talk.save()
        self.talk = talk
        await self._redraw()
        self.prompt.focus()
        self.post_message(Shown())

    # Inside

    def _current(self, message: Told) -> bool:
        """Whether it is of the answer that is being written; what another one still says is for nobody."""
        if message.writing is self._writing:
            return True
        message.stop()
        return False

    def _end(self) -> None:
        self._writing = self._answer = None
        self.refresh_bindings()

    async def _answer_now(self, *, choice: int = 0) -> None:
        answer = Answer(len(self.talk.turns))
        answer.tint(self.tinted)
        await self.transcript.add(answer)
        await self._write(answer, choice=choice)

    async def _write(self, answer: Answer, *, choice: int, begun: str = "") -> None:
        settings = self.talk.settings
        start: Callable[[], Generation] = partial(
            self.runtime.chat,
            self.talk.asked,
            replace(self.sampling, choice=self.sampling.choice + choice),
            max_tokens=settings.max_tokens,
            begun=begun,
        )
        self._answer = answer
        self._writing = writing = Writing(start, within_thoughts=bool(begun) and not answer.text)
        answer.say("reading the prompt …")
        self.refresh_bindings()
        self.post_message(Begun())
        self.run_worker(writing.read(self.post_message), name="reader", group="reader")

    async def _rewind(self, n: int) -> None:
        self.talk.rewind(n)
        await self.transcript.cut(n)

    async def _switch(self, turn: int, by: int) -> None:
        self._edit(None)
        if self.talk.switch(turn, by):
            await self._redraw()
            self.transcript.mark(self.transcript.turn(turn))
            self.refresh_bindings()

    async def _redraw(self) -> None:
        await self.transcript.show(self.talk.turns, self.talk.place, tinted=self.tinted)
        self.refresh_bindings()

    def _place(self, n: int) -> None:
        if turn := self.transcript.turn(n):
            turn.place.show(*self.talk.place(n))

    def _edit(self, turn: int | None) -> None:
        self._editing = turn
        self.prompt.border_title = "" if turn is None else "Enter sends it instead · Esc leaves it"
        self.refresh_bindings()

    def _begin(self, kept: Conversation | None = None) -> Talk:
        return Talk(self._store, self._settings, model=self.runtime.info.model, warn=self._warn, kept=kept)

    def _completed(self, before: str) -> str:
        return commands.completion(before, self._values) or attachments.completion(before)

    def _questions(self) -> list[str]:
        try:
            return self._store.questions()
        except StorageError:  # told where it matters: when a turn is not saved
            return [self.talk.turns[n].content for n in self.talk.questions]

    def _warn(self, error: StorageError) -> None:
        self.notify(f"not saved from here on: {failure(error)}", severity="error", timeout=15, markup=False)
