"""What can be typed behind a slash: one table, for whoever obeys, completes or explains it."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dspark_local.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_GIVEN = re.compile(r"/(?P<name>[^\s/]*)(?P<rest>\s.*)?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Command:
    """`/name takes`: `action` of the dialogue, the chat screen or the program, with what `takes` stands for.

    `knob` is the number of sampling that it sets.
    """

    name: str
    what: str
    action: str
    takes: str = ""
    knob: str = ""


COMMANDS = (
    Command("new", "begin another chat", "new_chat"),
    Command("open", "conversations that are kept", "conversations"),
    Command("rename", "give this chat another title", "rename", takes="TITLE"),
    Command("model", "load another model; without a name, the list", "models", takes="NAME"),
    Command("policy", "how many tokens a round drafts", "policy", takes="POLICY"),
    Command("system", "system message of this chat; without a text, the form", "system", takes="TEXT"),
    Command("temp", "temperature of this chat", "turn", takes="NUMBER", knob="temperature"),
    Command("seed", "seed of this chat; without a number, a drawn one", "turn", takes="NUMBER", knob="seed"),
    Command("again", "answer the last question again", "regenerate"),
    Command("continue", "go on with the last answer", "go_on"),
    Command("edit", "change your last message, or the one before", "edit"),
    Command("race", "plain decoding against drafting, on the last question", "race"),
    Command("machine", "what a round costs here", "machine"),
    Command("tint", "colour an answer by who proposed each token", "tint"),
    Command("panel", "show or hide the panel", "toggle_panel"),
    Command("copy", "copy the answer", "copy_answer"),
    Command("code", "copy the last code block", "copy_code"),
    Command("export", "write this chat to a file in the current folder", "export", takes="FORMAT"),
    Command("theme", "colours; ansi-dark and ansi-light are the terminal's own", "theme", takes="THEME"),
    Command("help", "keys and commands", "help"),
    Command("quit", "leave; the chat is kept", "quit"),
)


def given(text: str) -> tuple[Command, str] | None:
    """The command that a message is, and what stands behind it; None for a message that is none.

    A beginning that only one name has will do; a path, or a space before the slash, makes no command.
    Raises UsageError for a name that there is not.
    """
    found = _GIVEN.fullmatch(text)
    if found is None:
        return None
    name, fits = found["name"], matching(text)
    exact = [command for command in fits if command.name == name]
    if not name or len(exact or fits) != 1:
        meant = f"; did you mean {' or '.join(f'/{c.name}' for c in fits)}?" if name and fits else ""
        ways = meant or "; /help lists what there is"
        raise UsageError(f"there is no command /{name}{ways} (a space before the slash sends it as text)")
    return (exact or fits)[0], (found["rest"] or "").strip()


def matching(text: str) -> list[Command]:
    """Commands that `text` may become, or is."""
    found = _GIVEN.fullmatch(text)
    if found is None:
        return []
    name = found["name"]
    fits = [command for command in COMMANDS if command.name.startswith(name)]
    exact = [command for command in fits if command.name == name]
    return exact if exact and found["rest"] else fits


def completion(text: str, values: Mapping[str, Callable[[], Sequence[str]]]) -> str:
    """The rest of the first command, or of its argument as far as it is certain; `values` by what a command takes."""
    fits = matching(text)
    if not fits:
        return ""
    _, space, begun = text.partition(" ")
    if not space:
        return f"{fits[0].name} "[len(text) - 1 :] if fits[0].takes else fits[0].name[len(text) - 1 :]
    if len(fits) > 1 or fits[0].takes not in values or "\n" in begun:
        return ""
    known = [value for value in values[fits[0].takes]() if value.startswith(begun)]
    return os.path.commonprefix(known)[len(begun) :]  # noqa: RUF071 - character by character is what is meant
