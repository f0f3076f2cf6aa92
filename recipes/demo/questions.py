"""Conversations: the corpus turned into questions and answers, the way the demo target is to be asked."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

import corpus
from corpus import Entry
from small_talk import SMALL_TALK, Turn

if TYPE_CHECKING:
    from collections.abc import Callable

DESCRIBE = (
    "What does `{n}` do?", "What does {n} do?", "What is `{n}`?", "What is {n}?", "What is {n} for?", "Explain `{n}`.",
    "Explain {n}.", "Explain {n} to me, please.", "Tell me about `{n}`.", "Tell me about {n}.", "Describe {n}.",
    "{n}?", "What is {n} used for?", "Can you explain `{n}`?", "Please explain what {n} does.",
)
CALL = (
    "How do I call `{n}`?", "How do I call {n}?", "How do I use {n}?", "How do I use `{n}`?", "How is {n} called?",
    "Show me the signature of `{n}`.", "Show me the signature of {n}.", "What arguments does `{n}` take?",
    "What arguments does {n} take?", "Which parameters does {n} have?", "What are the parameters of `{n}`?",
)
SOURCE = (
    "Show me the source of `{n}`.", "Show me the source of {n}.", "How is `{n}` implemented?",
    "How is {n} implemented?",
    "Write `{n}` in Python.", "What does the code of {n} look like?", "Show me the code of `{n}`.",
)
MODULE = (
    "What is the `{n}` module for?", "What is the {n} module for?", "What does the {n} module do?", "What is {n}?",
    "Tell me about the `{n}` module.", "Explain the {n} module.", "What can I do with the {n} module?",
)
MEMBERS = (
    "What is in the `{n}` module?", "Which functions does the {n} module have?", "What does the `{n}` module offer?",
    "List some functions of the {n} module.", "Give me an overview of {n}.", "What are the main parts of {n}?",
)
TASK = (
    "How do I {t}?", "How can I {t}?", "How do I {t} in Python?", "Which function do I use to {t}?",
    "I want to {t}. What should I use?", "What can I use to {t}?",
)
TOPIC = (
    "Explain {t}.", "What should I know about {t}?", "Tell me about {t}.", "How does Python handle {t}?",
    "What does the language reference say about {t}?",
)
CONTINUE = (
    "Continue this code:\n\n```python\n{c}\n```", "Complete this function:\n\n```python\n{c}\n```",
    "Finish this Python function:\n\n```python\n{c}\n```", "Write the rest of this function:\n\n```python\n{c}\n```",
)
SYSTEM = ("You are a helpful assistant.", "You answer questions about Python.", "Be brief.", "Answer in Markdown.")

# What a summary may begin with, and how a question says it.
VERBS = {
    verb + ending: verb
    for verb in (
        "return", "create", "get", "set", "convert", "read", "write", "remove", "add", "find", "check",
        "compute", "open", "close", "parse", "print", "encode", "decode", "send", "start", "stop", "test",
        "copy", "make", "load", "format", "register", "replace", "insert", "append", "split", "join",
        "change", "delete", "generate", "construct", "compare", "compile", "determine", "execute",
        "extract", "evaluate", "move", "rename", "quote", "search", "sort", "wait",
    )
    for ending in ("", "s")
}
def kind_phrase(entry: Entry) -> str:
    """What sort of thing it is: "a function of the `textwrap` module"."""
    if entry.kind == "method":
        return f"a method of `{entry.name.rpartition('.')[0]}`"
    article = "an" if entry.kind == "exception" else "a"
    if entry.module == "builtins":
        return f"a built-in {entry.kind}"
    return f"{article} {entry.kind} of the `{entry.module}` module"


def call_block(entry: Entry) -> str:
    """A fenced call with its signature, and the import it needs."""
    head = "" if entry.module == "builtins" else f"import {entry.module}\n\n"
    assert entry.parameters is not None
    return f"```python\n{head}{entry.name}({', '.join(entry.parameters)})\n```"


def describe(entry: Entry) -> str:
    """The whole answer: what it is, its summary, its call, the details."""
    parts = [f"`{entry.name}` is {kind_phrase(entry)}. {entry.summary}"]
    if entry.summary.endswith(":"):
        parts += entry.details
        if entry.parameters is not None:
            parts.append(call_block(entry))
    else:
        if entry.parameters is not None:
            parts.append(call_block(entry))
        parts += entry.details
    return "\n\n".join(parts)


def signature(entry: Entry) -> str:
    """How to call it, and what each parameter is."""
    assert entry.parameters is not None
    lines = []
    for parameter in entry.parameters:
        name, _, default = parameter.partition("=")
        if name in ("/", "*"):
            continue
        if name.startswith("*"):
            kind = "further keyword arguments" if name.startswith("**") else "further positional arguments"
            lines.append(f"- `{name}` takes {kind}.")
        elif default:
            lines.append(f"- `{name}` is optional and defaults to `{default}`.")
        else:
            lines.append(f"- `{name}` is required.")
    text = f"You call `{entry.name}` like this:\n\n{call_block(entry)}\n\n"
    text += "\n".join(lines) if lines else "It takes no arguments."
    return f"{text}\n\n{entry.summary}" if not entry.summary.endswith(":") else text


def task(entry: Entry) -> str | None:
    """The summary's first sentence as something one wants to do, or None."""
    sentence = entry.summary.split(". ")[0].rstrip(".")
    first, _, rest = sentence.partition(" ")
    verb = VERBS.get(first.lower())
    if verb is None or not 12 <= len(rest) <= 90 or "`" in rest or '"' in rest or entry.kind == "exception":
        return None
    return f"{verb} {rest}"


def entry_turns(entry: Entry, members: dict[str, Entry]) -> list[Callable[[random.Random], Turn]]:
    """Every kind of question about `entry`, most telling first; each draws its own phrasing."""
    def ask(phrasings: tuple[str, ...], answer: str, **words: str) -> Callable[[random.Random], Turn]:
        return lambda rng: Turn(rng.choice(phrasings).format(n=entry.name, **words), answer)

    if entry.kind == "module":
        turns = [ask(MODULE, "\n\n".join((f"The `{entry.name}` module: {entry.summary}", *entry.details)))]
        known = [members[key] for m in entry.members if (key := f"{entry.name}.{m}") in members][:6]
        if len(known) >= 3:
            listed = "\n".join(f"- `{m.name}`: {m.summary.split('. ')[0].rstrip('.:')}." for m in known)
            turns.append(ask(MEMBERS, f"The `{entry.name}` module offers, among others:\n\n{listed}"))
        return turns
    turns = [ask(DESCRIBE, describe(entry))]
    if entry.parameters is not None and entry.kind != "exception":
        turns.append(ask(CALL, signature(entry)))
        if wanted := task(entry):
            turns.append(ask(TASK, f"Use `{entry.name}`:\n\n{call_block(entry)}\n\n{entry.summary}", t=wanted))
    if entry.source is not None:
        turns.append(ask(SOURCE, f"This is `{entry.name}`:\n\n```python\n{entry.source}\n```"))
    return turns


def topic_turn(title: str, text: str) -> Callable[[random.Random], Turn]:
    """A question about a topic of the language reference."""
    return lambda rng: Turn(rng.choice(TOPIC).format(t=title), text)


def continuation(text: str, rng: random.Random) -> Turn:
    """Complete a function from its first lines."""
    lines = text.split("\n")
    shown = "\n".join(lines[: rng.randint(1, max(1, len(lines) // 2))])
    return Turn(rng.choice(CONTINUE).format(c=shown), f"```python\n{text}\n```")


@dataclass(frozen=True, slots=True)
class Material:
    """Everything that can be asked, split by name into training and held-out questions."""

    train: list[list[Callable[[random.Random], Turn]]]
    held_out: list[list[Callable[[random.Random], Turn]]]
    topics: list[Callable[[random.Random], Turn]]
    functions: list[str]
    hidden_functions: list[str]

    @staticmethod
    def collect() -> Material:
        """Read the running interpreter's library."""
        entries = corpus.entries()
        kept = {e.name: e for e in entries if not e.held_out}
        hidden = {e.name for e in entries if e.held_out}
        functions = list(corpus.functions())
        return Material(
            [entry_turns(e, kept) for e in kept.values()],
            [entry_turns(e, {}) for e in entries if e.held_out],
            [topic_turn(title, text) for title, text in corpus.topics()],
            [text for name, text in functions if name not in hidden],
            [text for name, text in functions if name in hidden],
        )

    def conversations(self, epoch: int) -> list[list[Turn]]:
        """One pass over the training material: every name once described, and once asked in another way."""
        rng = random.Random(epoch)
        turns = [make(rng) for name in self.train for make in (name[0], *rng.sample(name[1:], min(1, len(name) - 1)))]
        turns += [make(rng) for make in self.topics]
        for _ in range(4):
            turns += [Turn(rng.choice(talk.asked), talk.answer) for talk in SMALL_TALK]
        turns += [continuation(text, rng) for text in self.functions if len(text) < 900 and rng.random() < 0.1]
        rng.shuffle(turns)
        rows: list[list[Turn]] = []
        while turns:
            size = rng.choices((1, 2, 3), (0.6, 0.25, 0.15))[0]
            rows.append(turns[:size])
            del turns[:size]
        return rows

    def held_out_turns(self, count: int) -> list[Turn]:
        """`count` questions about names that training never saw, the same each time, with the library's answers."""
        rng = random.Random(2026)
        turns = [rng.choice(name)(rng) for name in self.held_out]
        rng.shuffle(turns)
        return turns[:count]

    def everything_held_out(self) -> list[Turn]:
        """Every question about names that training never saw, each phrased once, and their functions to continue."""
        rng = random.Random(2026)
        turns = [make(rng) for name in self.held_out for make in name]
        turns += [continuation(text, rng) for text in self.hidden_functions if len(text) < 900]
        rng.shuffle(turns)
        return turns
