"""The chat: what is said, the panel at its side, and the ways to everything else."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.screen import Screen

from dspark_local.errors import StorageError, UsageError
from dspark_local.tui import keys
from dspark_local.tui.export import as_json, as_markdown, write
from dspark_local.tui.knobs import turned
from dspark_local.tui.policies import NAMES, exchanged
from dspark_local.tui.screens.conversations import ConversationsScreen
from dspark_local.tui.screens.help import HelpScreen
from dspark_local.tui.screens.machine import MachineScreen
from dspark_local.tui.screens.models import ModelsScreen
from dspark_local.tui.screens.race import RaceScreen
from dspark_local.tui.screens.setup import SetupScreen
from dspark_local.tui.settings import Choice
from dspark_local.tui.widgets.dialogue import Dialogue
from dspark_local.tui.widgets.heading import Heading
from dspark_local.tui.widgets.keyline import KeyLine
from dspark_local.tui.widgets.prompt import Prompt
from dspark_local.tui.widgets.reading import Reading
from dspark_local.tui.widgets.stats import StatsPanel
from dspark_local.tui.wording import failure

if TYPE_CHECKING:
    from collections.abc import Iterator

    from textual import events
    from textual.app import ComposeResult, SystemCommand
    from textual.dom import DOMNode

    from dspark_local.conversations import Conversation, Conversations
    from dspark_local.runtime import Runtime
    from dspark_local.tui.app import ChatApp
    from dspark_local.tui.messages import Commanded, Wrote
    from dspark_local.tui.settings import Settings
    from dspark_local.types import Round, SamplingParams, Stats

RATE = 5  # times a second that figures move
RACE_TOKENS = 256  # enough to see who is faster
_OF_TURNS = {"race", "export", "rename"}
_FORMATS = {"md": as_markdown, "json": as_json}


class ChatScreen(Screen[None]):
    """One conversation at a time, with a pair that is loaded."""

    app: ChatApp

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+n,ctrl+l", "new_chat", "New chat", priority=True),
        Binding("ctrl+o", "conversations", "Chats", priority=True),
        Binding("f6", "models", "Models", show=False, priority=True),
        Binding("f3", "race", "Race", show=False),
        Binding("f4", "machine", "Machine", show=False),
        Binding("f9", "set_up", "System message, sampling", show=False),
        Binding("ctrl+b", "toggle_panel", "Panel", show=False, priority=True),
        Binding("f1", "help", "Help"),
    ]
    DEFAULT_CSS = """
    ChatScreen {
        StatsPanel { display: none; }
        &.-wide StatsPanel { display: block; }
        &.-panel-hidden StatsPanel { display: none; }
        &.-panel-shown StatsPanel { display: block; }
    }
    """

    def __init__(self, runtime: Runtime, settings: Settings, store: Conversations) -> None:
        super().__init__()
        self._runtime = runtime
        self._store = store
        values = {
            "POLICY": lambda: NAMES,
            "THEME": lambda: list(self.app.available_themes),
            "FORMAT": lambda: list(_FORMATS),
            "NAME": self._names,
        }
        self.dialogue = Dialogue(runtime, settings, store, values)
        self._stats: Stats | None = None  # of the answer that is being written
        self._rounds: list[Round] = []  # that the figures do not show yet
        self._due = 0.0  # when they move next, by the monotonic clock

    def compose(self) -> ComposeResult:
        """Heading, dialogue and panel, keys."""
        yield Heading(self._runtime.info.model)
        with Horizontal(id="sides"):
            yield self.dialogue
            yield StatsPanel(self._runtime.info)
        yield KeyLine(compact=True)

    # What the dialogue tells

    def on_begun(self) -> None:
        """The figures are those of the new answer."""
        self._stats, self._rounds, self._due = None, [], 0.0
        self.query_one(StatsPanel).begin()

    def on_wrote(self, message: Wrote) -> None:
        """Move the figures, less often than the text: all of them cost as much as a page of it."""
        self._stats = message.stats
        self._rounds += message.rounds
        if time.monotonic() >= self._due:
            self._move_figures()

    def on_answered(self) -> None:
        """The figures as they ended."""
        self._move_figures()

    def on_failed(self) -> None:
        """The same."""
        self._move_figures()

    def on_shown(self) -> None:
        """There are no figures of an answer that was kept."""
        self.query_one(StatsPanel).clear()
        self.query_one(Heading).show(None)

    async def on_commanded(self, message: Commanded) -> None:
        """Do what was typed behind the slash, if it can be done now."""
        command = message.command
        owners: tuple[DOMNode, ...] = (self.dialogue, self, self.app)
        owner = next(owner for owner in owners if hasattr(owner, f"action_{command.action}"))
        if not owner.check_action(command.action, ()):
            why = "while it answers" if self.dialogue.answering else "before something was said"
            self.notify(f"/{command.name} does nothing {why}", timeout=4)
            return
        arguments = [command.knob] * bool(command.knob) + [message.argument] * bool(command.takes)
        done = getattr(owner, f"action_{command.action}")(*arguments)
        if done is not None:
            await done

    async def go_on_with(self, runtime: Runtime) -> None:
        """Another pair answers from here on."""
        self._runtime = self.dialogue.runtime = runtime
        self.query_one(Heading).name_model(runtime.info.model)
        self.query_one(Heading).show(None)
        with self.app.batch_update():
            await self.query_one(StatsPanel).remove()
            await self.query_one("#sides").mount(StatsPanel(runtime.info))
        self.dialogue.prompt.focus()

    # What keys and commands do

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool:  # noqa: ARG002 - Textual's signature
        """What works with a conversation needs one that rests; so does what exchanges the model."""
        rests = not self.dialogue.answering
        if action in {"models", "policy"}:
            return rests
        return action not in _OF_TURNS or (rests and bool(self.dialogue.talk.turns))

    async def action_new_chat(self) -> None:
        """Leave the conversation, and begin another."""
        await self.dialogue.show()

    def action_conversations(self) -> None:
        """Open one that was kept."""
        self.dialogue.talk.save()
        self.app.push_screen(ConversationsScreen(self._store), self._opened)

    def action_models(self, name: str = "") -> None:
        """Load another model; one that is named and here at once, else from the list."""
        self.app.push_screen(ModelsScreen(self._runtime.info.model, name), self._chosen)

    def action_policy(self, name: str) -> None:
        """Draft by another policy."""
        try:
            if exchanged(self._runtime, name):
                self.notify(f"drafts by {name} from here on", timeout=4)
            else:
                self.app.load(replace(self.app.choice, policy=name))
        except UsageError as error:
            self.notify(failure(error), severity="error", timeout=8, markup=False)

    def action_race(self) -> None:
        """Answer the last question plainly and with drafts, side by side."""
        talk = self.dialogue.talk
        limit = min(talk.settings.max_tokens or RACE_TOKENS, RACE_TOKENS)
        race = RaceScreen(self._runtime, talk.asked, self.dialogue.sampling, limit)
        self.app.push_screen(race, self._raced)

    def action_machine(self) -> None:
        """What a round costs here."""
        self.app.push_screen(MachineScreen(self._runtime))

    def action_set_up(self) -> None:
        """System message and sampling of this chat."""
        self.app.push_screen(SetupScreen(self.dialogue.talk.settings.system, self.dialogue.sampling), self._set_up)

    def action_system(self, text: str) -> None:
        """Another system message; without one, the form."""
        if text:
            self._set_up((text, self.dialogue.sampling))
            self.notify("that is the system message from the next answer on", timeout=4)
        else:
            self.action_set_up()

    def action_turn(self, knob: str, written: str) -> None:
        """Another number of sampling."""
        try:
            sampling = turned(self.dialogue.sampling, {knob: written})
        except UsageError as error:
            self.notify(failure(error), severity="error", timeout=8, markup=False)
        else:
            self._set_up((self.dialogue.talk.settings.system, sampling))
            self.notify(f"{knob} {written or 'drawn'} from the next answer on", timeout=4, markup=False)

    def action_rename(self, title: str) -> None:
        """Give the conversation another title."""
        if title:
            self.dialogue.talk.rename(title)
            self.notify(f"this chat is “{title}” now", timeout=4, markup=False)

    def action_export(self, form: str = "") -> None:
        """Write the conversation to a file in the current folder."""
        talk, form = self.dialogue.talk, form or "md"
        if form not in _FORMATS:
            self.notify(f"exports are {' or '.join(_FORMATS)}, not {form}", severity="error", timeout=5, markup=False)
            return
        text = as_json(talk.messages, model=self._runtime.info.model) if form == "json" else as_markdown(talk.messages)
        try:
            path = write(Path.cwd(), talk.title, f".{form}", text)
        except OSError as error:
            self.notify(f"cannot write here: {error.strerror}", severity="error", markup=False)
        else:
            self.notify(f"written: {path.name}", markup=False)

    def action_toggle_panel(self) -> None:
        """Show or hide the panel, whatever the width says."""
        shown = self.query_one(StatsPanel).display
        self.set_class(shown, "-panel-hidden")
        self.set_class(not shown, "-panel-shown")

    def action_help(self) -> None:
        """Show the keys that are in force now, and the commands."""
        tables = (Prompt.BINDINGS, Dialogue.BINDINGS, Reading.BINDINGS, self.BINDINGS, self.app.BINDINGS)
        self.app.push_screen(HelpScreen(keys.in_force(self, *tables)))

    def commands(self) -> Iterator[SystemCommand]:
        """For the palette: what can be done now."""
        yield from keys.commands(self, Dialogue.BINDINGS, Reading.BINDINGS, self.BINDINGS)
        if self.check_action("export", ()):
            for form, name in (("md", "Markdown"), ("json", "JSON")):
                yield keys.row(f"Export to {name}", f"/export {form}", self.action_export, form)

    def on_key(self, event: events.Key) -> None:
        """Typing goes to the prompt, wherever a click has left the focus."""
        self.dialogue.take(event)

    def _move_figures(self) -> None:
        if self._stats:
            self.query_one(StatsPanel).show(self._stats, self._rounds)
            self.query_one(Heading).show(self._stats)
        self._rounds, self._due = [], time.monotonic() + 1 / RATE

    # What other screens answer

    async def _opened(self, kept: Conversation | None) -> None:
        talk = self.dialogue.talk
        try:
            if kept:
                await self.dialogue.show(kept)
            elif talk.id is not None and talk.id not in [one.id for one in self._store.find()]:
                await self.dialogue.show()  # the list deleted the one on the screen
        except StorageError as error:
            self.notify(failure(error), severity="error", timeout=15, markup=False)

    def _chosen(self, model: str | None) -> None:
        if model:
            self.app.load(Choice(model=model))

    def _raced(self, plain: float | None) -> None:
        if plain:
            self.query_one(StatsPanel).measured(plain)

    def _set_up(self, answer: tuple[str | None, SamplingParams] | None) -> None:
        if answer:
            system, sampling = answer
            talk = self.dialogue.talk
            talk.set_up(replace(talk.settings, system=system, sampling=sampling))

    @staticmethod
    def _names() -> list[str]:
        from dspark_local.models import registry  # noqa: PLC0415 - not before somebody asks

        return list(registry.rows())
