"""The conversations that are kept: to search, open, rename and delete."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from dspark_local.errors import StorageError
from dspark_local.tui.screens.card import Card
from dspark_local.tui.widgets.keyline import KeyLine
from dspark_local.tui.wording import failure

if TYPE_CHECKING:
    from collections.abc import Callable

    from textual.app import ComposeResult

    from dspark_local.conversations import Conversation, Conversations

SEARCH = "search titles and messages"


class ConversationsScreen(Card["Conversation | None"]):
    """A list below a line to search in, or to write another title; answers with the one to open."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "open", "Open", priority=True),
        Binding("f2", "rename", "Rename"),
        Binding("f8", "delete", "Delete"),
        Binding("ctrl+o", "leave", show=False, priority=True),
        Binding("up", "move(-1)", show=False, priority=True),
        Binding("down", "move(1)", show=False, priority=True),
    ]
    DEFAULT_CSS = """
    ConversationsScreen {
        #card { height: 80%; }
        Input { background: $boost; }
        OptionList {
            height: 1fr; border: none; background: transparent; padding: 0;
            text-wrap: nowrap; text-overflow: ellipsis;
        }
        #none { color: $text-muted; padding: 1; display: none; }
        &.-empty #none { display: block; }
        &.-empty OptionList { display: none; }
    }
    """

    def __init__(self, store: Conversations) -> None:
        super().__init__()
        self._store = store
        self._found: list[Conversation] = []
        self._renamed: Conversation | None = None  # while its title is being written
        self._doomed: Conversation | None = None  # while a second key would delete it
        self._searched = ""

    def compose(self) -> ComposeResult:
        """Line and list."""
        with Vertical(id="card") as card:
            card.border_title = "chats"
            yield Input(placeholder=SEARCH, compact=True)
            yield Static("nothing found", id="none")
            yield OptionList()
        yield KeyLine()

    def on_mount(self) -> None:
        """All of them."""
        self.query_one(Input).focus()
        self._list()

    def on_input_changed(self, message: Input.Changed) -> None:
        """Search as the user types."""
        self._doomed = None
        if self._renamed is None and message.value != self._searched:
            self._searched = message.value
            self._list()

    def on_option_list_option_selected(self) -> None:
        """A click opens."""
        self.action_open()

    def action_open(self) -> None:
        """Open what is marked; or take the title that was written."""
        if self._renamed is None:
            if self._marked:
                self.dismiss(self._marked)
            return
        one, title = self._renamed, self.query_one(Input).value.strip()
        self._search_again()
        if title:
            self._change(lambda: self._store.rename(one.id, title))

    def action_rename(self) -> None:
        """Write another title in the line."""
        if (marked := self._marked) and self._renamed is None:
            self._renamed, self._doomed = marked, None
            line = self.query_one(Input)
            line.value = marked.title
            self.query_one("#card").border_title = "another title: Enter takes it, Esc leaves it"

    def action_delete(self) -> None:
        """Delete what is marked, the second time."""
        if self._renamed or (marked := self._marked) is None:
            return
        if self._doomed == marked:
            self._doomed = None
            self._change(lambda: self._store.delete(marked.id))
        else:
            self._doomed = marked
            self.notify(f"F8 again deletes “{marked.title}” for good.", severity="warning", timeout=4, markup=False)

    def action_leave(self) -> None:
        """Back to the list, or to the chat."""
        if self._renamed:
            self._search_again()
        else:
            self.dismiss(None)

    def action_move(self, rows: int) -> None:
        """Mark another, with the line keeping the focus."""
        self._doomed = None
        options = self.query_one(OptionList)
        options.action_cursor_up() if rows < 0 else options.action_cursor_down()

    @property
    def _marked(self) -> Conversation | None:
        at = self.query_one(OptionList).highlighted
        return self._found[at] if at is not None and at < len(self._found) else None

    def _search_again(self) -> None:
        self._renamed = None
        self.query_one("#card").border_title = "chats"
        with self.prevent(Input.Changed):
            self.query_one(Input).value = self._searched

    def _change(self, job: Callable[[], None]) -> None:
        try:
            job()
        except StorageError as error:
            self.notify(failure(error), severity="error", markup=False)
        self._list()

    def _list(self) -> None:
        options = self.query_one(OptionList)
        at = options.highlighted or 0
        try:
            self._found = self._store.find(self._searched)
        except StorageError as error:
            self._found = []
            self.notify(failure(error), severity="error", markup=False)
        options.clear_options().add_options(Option(_line(one)) for one in self._found)
        options.highlighted = min(at, len(self._found) - 1) if self._found else None
        self.set_class(not self._found, "-empty")


def _line(one: Conversation) -> Content:
    when = datetime.fromtimestamp(one.updated).astimezone()
    return Content.assemble((f"{when:%Y-%m-%d %H:%M}  ", "$foreground 60%"), one.title)
