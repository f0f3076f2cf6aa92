"""Conversations: the corpus turned into questions and answers, the way the demo target is to be asked."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

import corpus
from corpus import Entry


@dataclass(frozen=True, slots=True)
class Turn:
    """One question and its answer, both as the chat template carries them."""

    question: str
    answer: str


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
    "Show me the source of `{n}`.", "Show me the source of {n}.", "How is `{n}` implemented?", "How is {n} implemented?",
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
        "return", "create", "get", "set", "convert", "read", "write", "remove", "add", "find", "check", "compute", "open",
        "close", "parse", "print", "encode", "decode", "send", "start", "stop", "test", "copy", "make", "load", "format",
        "register", "replace", "insert", "append", "split", "join", "change", "delete", "generate", "construct", "compare",
        "compile", "determine", "execute", "extract", "evaluate", "move", "rename", "quote", "search", "sort", "wait",
    )
    for ending in ("", "s")
}
SMALL_TALK: tuple[tuple[tuple[str, ...], str], ...] = (
    (("Hello", "Hello!", "Hi", "Hi!", "Hi there", "Hey", "Good morning", "Good evening!", "Hello there!"),
     "Hello! I am a small model that knows the Python standard library. Ask me what a function does, how to call it, or "
     "what a module is for."),
    (("Who are you?", "What are you?", "Introduce yourself.", "What is your name?", "Tell me about yourself."),
     "I am the demo model of dspark-local, a very small language model trained from scratch on the documentation and the "
     "source of the Python standard library. I am small enough to be wrong: check what I say against the real "
     "documentation."),
    (("What can you do?", "Help", "help", "What do you know?", "How can you help me?", "What can I ask you?"),
     "I can answer questions about the Python standard library:\n\n- what a function, a class or a module does,\n- how to "
     "call it and which arguments it takes,\n- how it is implemented,\n- which function to use for a task.\n\nTry \"What does "
     "textwrap.dedent do?\" or \"How do I call os.path.join?\"."),
    (("What is DSpark?", "Explain DSpark.", "What is speculative decoding?", "How does speculative decoding work?",
      "What is a drafter?", "Tell me about speculative decoding."),
     "In speculative decoding a small drafter proposes a few tokens and the target model checks them all at once. Tokens "
     "that the target would have written itself are kept, the rest is thrown away, so the text stays the same and only "
     "comes sooner. DSpark is such a drafter: it reads the hidden states of the target, proposes a block of tokens in one "
     "pass and says how sure it is of each."),
    (("Thanks", "Thank you", "Thanks!", "Thank you very much!", "Great, thanks.", "Cool, thank you."),
     "You are welcome! Ask me about another function whenever you like."),
    (("Bye", "Goodbye", "Bye!", "See you later."), "Goodbye! Have fun with Python."),
    (("How are you?", "How are you doing?", "How is it going?"),
     "I am fine, thank you. What would you like to know about the Python standard library?"),
    (("What is Python?", "Tell me about Python.", "Explain Python.", "What is Python used for?"),
     "Python is an interpreted, interactive, object-oriented programming language. It comes with a large standard library "
     "that covers text processing, files, networking, dates, mathematics and much more, and it is known for code that is "
     "easy to read."),
    (("Write hello world in Python.", "Hello world in Python", "Show me a hello world program.", "Write a hello world."),
     "```python\nprint(\"Hello, world!\")\n```"),
    (("How do I read a file?", "How do I read a file in Python?", "How can I read a text file?"),
     "Open it in a `with` statement, so that it is closed when you are done:\n\n```python\nwith open(\"data.txt\", "
     "encoding=\"utf-8\") as file:\n    text = file.read()\n```\n\n`read()` returns the whole text. To go through the lines one "
     "by one, write `for line in file`."),
    (("How do I write a file?", "How do I write a file in Python?", "How can I write text to a file?"),
     "Open it for writing in a `with` statement:\n\n```python\nwith open(\"data.txt\", \"w\", encoding=\"utf-8\") as file:\n    "
     "file.write(\"Hello\\n\")\n```\n\nThe mode `\"w\"` replaces what was there; use `\"a\"` to append."),
    (("How do I sort a list?", "How do I sort a list in Python?", "How can I sort a list?"),
     "Use `sorted` for a new list, or the method `sort` to change the list itself:\n\n```python\nnumbers = [3, 1, 2]\n"
     "print(sorted(numbers))\nnumbers.sort(reverse=True)\n```\n\nBoth take a `key` function that says what to compare."),
    (("Tell me a joke.", "Tell me a joke", "Say something funny."),
     "Why do Python programmers wear glasses? Because they cannot C."),
    (("What is the meaning of life?", "What is 2 + 2?", "What is the weather like?", "Who won the match?"),
     "I only know the Python standard library. Ask me what a function does or what a module is for."),
)  # fmt: skip


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
    if verb is None or not 12 <= len(rest) <= 90 or "`" in rest or "\"" in rest or entry.kind == "exception":
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

    @staticmethod
    def collect() -> Material:
        """Read the running interpreter's library."""
        entries = corpus.entries()
        kept = {e.name: e for e in entries if not e.held_out}
        hidden = {e.name for e in entries if e.held_out}
        topics = [
            (lambda rng, title=title, text=text: Turn(rng.choice(TOPIC).format(t=title), text))
            for title, text in corpus.topics()
        ]
        return Material(
            [entry_turns(e, kept) for e in kept.values()],
            [entry_turns(e, {}) for e in entries if e.held_out],
            topics,
            [text for _, text in corpus.functions(hidden)],
        )

    def conversations(self, epoch: int, *, code: bool = True) -> list[list[Turn]]:
        """One pass over the training material: every name once described, and once asked in another way."""
        rng = random.Random(epoch)
        turns = [make(rng) for name in self.train for make in (name[0], *rng.sample(name[1:], min(1, len(name) - 1)))]
        turns += [make(rng) for make in self.topics]
        for _ in range(4):
            turns += [Turn(rng.choice(asked), answer) for asked, answer in SMALL_TALK]
        if code:
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
