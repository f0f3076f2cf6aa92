"""The conversation on the screen, saved as it goes."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from dspark_local.chat import Message, Reasoning
from dspark_local.conversations import Turn
from dspark_local.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from dspark_local.conversations import Conversation, Conversations
    from dspark_local.tui.settings import Settings

T = TypeVar("T")
SAVED_EVERY = 1.0  # seconds, while an answer grows
_TITLE = 60  # characters


class Talk:
    """Turns in memory, and in the store from the first question on.

    When the store fails, `warn` is told once and the talk goes on unsaved.
    """

    def __init__(
        self,
        store: Conversations,
        settings: Settings,
        *,
        model: str,
        warn: Callable[[StorageError], None],
        kept: Conversation | None = None,
    ) -> None:
        """Begin anew, or with one that was `kept`. Raises StorageError when that cannot be read."""
        if kept:
            settings = replace(settings, system=kept.system, sampling=kept.sampling or settings.sampling)
        self.settings = settings
        self.id = kept.id if kept else None
        self.turns = store.turns(kept.id) if kept else []
        self._store: Conversations | None = store
        self._model = model
        self._warn = warn
        self._unsaved = False
        self._saved_at = 0.0

    @property
    def messages(self) -> list[Message]:
        """What the model is given: the system message and all turns."""
        system = [Message("system", self.settings.system)] if self.settings.system else []
        return [*system, *(Message(turn.role, turn.content) for turn in self.turns)]

    @property
    def asked(self) -> list[Message]:
        """What the model was given for the last answer."""
        messages = self.messages
        return messages[: len(messages) - len(self.turns) + self.questions[-1] + 1]

    @property
    def begun(self) -> str:
        """The last answer as the model wrote it, its thoughts in their tags; empty behind a question."""
        last = self.turns[-1]
        if last.role == "user" or not last.thinking:
            return last.content if last.role != "user" else ""
        closed = Reasoning().closing if last.content else ""
        return f"{Reasoning().opening}{last.thinking}{closed}{last.content}"

    @property
    def title(self) -> str:
        """The first line that says something."""
        lines = self.turns[0].content.split("\n")
        title = next((line.strip() for line in lines if line.strip()), "")
        return title if len(title) <= _TITLE else title[: _TITLE - 1] + "…"

    @property
    def questions(self) -> list[int]:
        """Where the user's turns are."""
        return [n for n, turn in enumerate(self.turns) if turn.role == "user"]

    def ask(self, text: str) -> None:
        """The user's turn."""
        self._add(Turn(role="user", content=text))

    def write(self, text: str, thinking: str) -> None:
        """The model's turn, which begins or grows."""
        if self.turns[-1].role == "user":
            self._add(Turn(role="assistant", content=text, thinking=thinking))
            return
        last = self.turns[-1]
        self.turns[-1] = replace(last, content=last.content + text, thinking=last.thinking + thinking)
        self._unsaved = True
        if time.monotonic() >= self._saved_at + SAVED_EVERY:
            self.save()

    def save(self) -> None:
        """Keep what the last turn says now."""
        if self._unsaved:
            self._unsaved = False
            self._saved_at = time.monotonic()
            self._keep(lambda store: store.amend(self.turns[-1]))

    def rewind(self, n: int) -> None:
        """Go on behind the first `n` turns."""
        self.save()
        del self.turns[n:]
        if self.id is not None:
            one, last = self.id, self.turns[-1].id if self.turns else None
            self._keep(lambda store: store.rewind(one, last))

    def place(self, n: int) -> tuple[int, int]:
        """Of what was said in the place of turn `n`: which one is shown, from 1 on, and how many there are."""
        one, among = self._siblings(n)
        return (among.index(one) + 1, len(among)) if one in among else (1, 1)

    def switch(self, n: int, by: int) -> bool:
        """Show what was said in the place of turn `n` before or later, and what followed; whether there was any."""
        self.save()
        one, among = self._siblings(n)
        at = among.index(one) + by if one in among else -1
        if self.id is None or not 0 <= at < len(among):
            return False
        conversation, other = self.id, among[at]
        self._keep(lambda store: store.switch(conversation, other))
        self.turns = self._keep(lambda store: store.turns(conversation)) or self.turns
        return True

    def _siblings(self, n: int) -> tuple[int | None, list[int]]:
        one = self.turns[n].id
        return one, (self._keep(lambda store: store.siblings(one)) or []) if one is not None else []

    def set_up(self, settings: Settings) -> None:
        """Draw the next answers otherwise."""
        self.settings = settings
        if self.id is not None:
            one = self.id
            self._keep(lambda store: store.set_up(one, system=settings.system, sampling=settings.sampling))

    def rename(self, title: str) -> None:
        """Another title in the list."""
        if self.id is not None:
            one = self.id
            self._keep(lambda store: store.rename(one, title))

    def _add(self, turn: Turn) -> None:
        self.save()
        self.turns.append(turn)
        self._keep(self._store_last)

    def _store_last(self, store: Conversations) -> None:
        if self.id is None:
            settings = self.settings
            self.id = store.create(self.title, model=self._model, system=settings.system, sampling=settings.sampling)
        self.turns[-1] = replace(self.turns[-1], id=store.add(self.id, self.turns[-1]))

    def _keep(self, job: Callable[[Conversations], T]) -> T | None:
        if self._store:
            try:
                return job(self._store)
            except StorageError as error:
                self._store = None  # a turn that is missing would tear the chain of those behind it
                self._warn(error)
        return None
