"""GBNF, llama.cpp's notation for grammars, read strictly before llama.cpp sees it.

llama.cpp prints a faulty grammar whole, and on some it never ends: it finds left recursion only behind what is
literally empty. So this reader refuses what llama.cpp refuses, and that; and it knows the shortest text of a grammar.
The notation: https://github.com/ggml-org/llama.cpp/blob/master/grammars/README.md. Rules for tokens (`<…>`) are
left out.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import NoReturn

from dspark_local.errors import UsageError

ROOT = "root"
MOST_REPEATS = 2000  # MAX_REPETITION_THRESHOLD: beyond, llama.cpp refuses a minimum and forgets a maximum
_DEEPEST = 100  # groups in groups
_MOST_SYMBOLS = 50_000
_MOST_VISITS = 1_000_000  # llama.cpp looks for left recursion along every path
_LAST = 0x10FFFF
_NAME = re.compile(r"[A-Za-z0-9-]+")
_SPACE = re.compile(r"(?:[ \t]|#[^\r\n]*)*")
_SPACES = re.compile(r"(?:[ \t\r\n]|#[^\r\n]*)*")
_REPEAT = re.compile(r"\{[ \t\r\n]*(\d+)[ \t\r\n]*(?:(,)[ \t\r\n]*(\d*)[ \t\r\n]*)?\}")
_ESCAPES = {"t": "\t", "r": "\r", "n": "\n", "\\": "\\", '"': '"', "[": "[", "]": "]", "-": "-"}
_HEX = {"x": 2, "u": 4, "U": 8}


@dataclass(frozen=True, slots=True)
class Item:
    """A part of a sequence, `least` to `most` times: `chars` characters, a rule's name, or alternatives in brackets.

    `chars` is infinite where no character fits; `weight` is how many rules llama.cpp makes of it.
    """

    chars: float = 0
    rule: str | None = None
    group: tuple[tuple[Item, ...], ...] = ()
    least: int = 1
    most: float = 1
    weight: int = 1


Alternatives = tuple[tuple[Item, ...], ...]


@dataclass(frozen=True, slots=True)
class Grammar:
    """A grammar that llama.cpp takes; `shortest` is the number of characters in its shortest text."""

    text: str
    shortest: int


def read_gbnf(text: str) -> Grammar:
    """Read a grammar. Raises UsageError, naming the line, for all that llama.cpp would refuse or hang on."""
    if "\0" in text or (not text.isascii() and text.encode("utf-8", "replace").decode() != text):
        raise UsageError("the grammar has a NUL character in it, or half of one")
    rules = _Parser(text).rules()
    if ROOT not in rules:
        raise UsageError(f"the grammar has no rule named {ROOT}")
    for name, alternatives in rules.items():
        for wanted in _references(alternatives):
            if wanted not in rules:
                raise UsageError(f"the grammar's rule {name} names {wanted}, which is no rule")
    shortest = _shortest(rules)
    _check_left_recursion(rules, {name for name, n in shortest.items() if n == 0})
    if math.isinf(shortest[ROOT]):
        raise UsageError("no text fits the grammar: every way through it needs more, without end")
    return Grammar(text, int(shortest[ROOT]))


@dataclass(slots=True)
class _Parser:
    text: str
    at: int = 0
    symbols: int = 0
    found: dict[str, Alternatives] = field(default_factory=dict)

    def rules(self) -> dict[str, Alternatives]:
        self._skip(_SPACES)
        while self.at < len(self.text):
            name = self._name()
            self._skip(_SPACE)
            self._take("::=")
            self._skip(_SPACES)
            self.found[name] = self._alternatives(depth=0)  # of two by one name llama.cpp takes the later
            if self.at < len(self.text) and self.text[self.at] not in "\r\n":
                self._fault("expected the end of the line")
            self._skip(_SPACES)
        return self.found

    def _alternatives(self, depth: int) -> Alternatives:
        if depth > _DEEPEST:
            self._fault(f"brackets nested deeper than {_DEEPEST}")
        found = [self._sequence(depth)]
        while self._peek() == "|":
            self.at += 1
            self._skip(_SPACES)
            found.append(self._sequence(depth))
        return tuple(found)

    def _sequence(self, depth: int) -> tuple[Item, ...]:
        items: list[Item] = []
        space = _SPACES if depth else _SPACE
        while char := self._peek():
            if char in "*+?{":
                if not items:
                    self._fault(f"nothing before {char} to repeat")
                items[-1] = self._repeated(items[-1])
            elif item := self._item(char, depth):
                items.append(item)
            else:
                break
            self._skip(space)
            self.symbols += 1
            if self.symbols > _MOST_SYMBOLS:
                self._fault(f"more than {_MOST_SYMBOLS} symbols")
        return tuple(items)

    def _item(self, char: str, depth: int) -> Item | None:
        """What begins here, None where the sequence ends."""
        if char == '"':
            return self._literal()
        if char == "[":
            return self._class()
        if char == ".":
            self.at += 1
            return Item(1)
        if char == "(":
            return self._group(depth)
        if char in "<!":
            self._fault("rules for tokens (<…>) are not supported")
        return Item(rule=self._name()) if _NAME.match(char) else None

    def _group(self, depth: int) -> Item:
        self.at += 1
        self._skip(_SPACES)
        group = self._alternatives(depth + 1)
        self._take(")")
        return Item(group=group, weight=1 + sum(i.weight for items in group for i in items if i.rule or i.group))

    def _repeated(self, item: Item) -> Item:
        least, most = {"*": (0, math.inf), "+": (1, math.inf), "?": (0, 1)}.get(self.text[self.at], (1, 1.0))
        if self.text[self.at] == "{":
            match = _REPEAT.match(self.text, self.at)
            if not match:
                self._fault("expected {n}, {n,} or {n,m}")
            least = int(match[1])
            most = int(match[3]) if match[3] else math.inf if match[2] else least
            self.at = match.end()
        else:
            self.at += 1
        times = int(most) if 0 < most < math.inf else max(1, least)
        if item.weight * times > MOST_REPEATS or least > MOST_REPEATS:
            self._fault(f"more repetitions than {MOST_REPEATS}, counting those of what is repeated")
        if most < least:
            self._fault("a repetition's maximum is below its minimum")
        return Item(group=((item,),), least=least, most=most, weight=item.weight * times)

    def _literal(self) -> Item:
        self.at += 1
        n = 0
        while self._peek() != '"':
            if self._char() == 0:
                self._fault("a NUL in a literal")
            n += 1
        self.at += 1
        return Item(n)

    def _class(self) -> Item:
        self.at += 1
        inverted = self._peek() == "^"
        self.at += inverted
        ranges: list[tuple[int, int]] = []
        while self._peek() != "]":
            first = last = self._char()
            if self._peek() == "-" and self.text[self.at + 1 : self.at + 2] != "]":
                self.at += 1
                last = self._char()
            ranges.append((first, last))
        self.at += 1
        if not ranges:
            self._fault("an empty class of characters")
        fits = not _covers_all(ranges) if inverted else any(first <= last for first, last in ranges)
        return Item(1 if fits else math.inf)

    def _char(self) -> int:
        char = self._peek()
        if not char:
            self._fault("a quotation or class without its end")
        if char != "\\":
            self.at += 1
            return ord(char)
        kind = self.text[self.at + 1 : self.at + 2]
        if kind in _ESCAPES:
            self.at += 2
            return ord(_ESCAPES[kind])
        digits = self.text[self.at + 2 : self.at + 2 + _HEX.get(kind, 0)]
        if kind not in _HEX or not re.fullmatch(f"[0-9A-Fa-f]{{{_HEX[kind]}}}", digits):
            self._fault(f"an unknown escape \\{kind}{digits}")
        self.at += 2 + len(digits)
        return int(digits, 16)

    def _name(self) -> str:
        match = _NAME.match(self.text, self.at)
        if not match:
            self._fault("expected a rule's name")
        self.at = match.end()
        return match[0]

    def _peek(self) -> str:
        return self.text[self.at : self.at + 1]

    def _take(self, wanted: str) -> None:
        if not self.text.startswith(wanted, self.at):
            self._fault(f"expected {wanted}")
        self.at += len(wanted)

    def _skip(self, pattern: re.Pattern[str]) -> None:
        match = pattern.match(self.text, self.at)
        assert match, "it matches nothing too"
        self.at = match.end()

    def _fault(self, what: str) -> NoReturn:
        raise UsageError(f"grammar, line {self.text.count(chr(10), 0, self.at) + 1}: {what}")


def _covers_all(ranges: list[tuple[int, int]]) -> bool:
    reached = 1  # NUL never occurs in a text
    for first, last in sorted(ranges):
        if first > reached:
            return False
        reached = max(reached, last + 1)
    return reached > _LAST


def _references(alternatives: Alternatives) -> list[str]:
    found: list[str] = []
    for item in (item for items in alternatives for item in items):
        found += [item.rule] if item.rule else _references(item.group)
    return found


def _shortest(rules: dict[str, Alternatives]) -> dict[str, float]:
    """Characters of each rule's shortest text, infinite where there is none: the least fixed point."""
    known = dict.fromkeys(rules, math.inf)
    changed = True
    while changed:
        changed = False
        for name, alternatives in rules.items():
            n = _length(alternatives, known)
            if n < known[name]:
                known[name], changed = n, True
    return known


def _length(alternatives: Alternatives, known: dict[str, float]) -> float:
    return min(sum(_item_length(item, known) for item in items) for items in alternatives)


def _item_length(item: Item, known: dict[str, float]) -> float:
    if not item.least:
        return 0
    once = known[item.rule] if item.rule else _length(item.group, known) if item.group else item.chars
    return item.least * once


def _check_left_recursion(rules: dict[str, Alternatives], nullable: set[str]) -> None:
    firsts = {name: _firsts(name, alternatives, nullable) for name, alternatives in rules.items()}
    visits: dict[str, int] = {}
    open_rules: set[str] = set()
    stack = [(name, False) for name in rules]
    while stack:
        name, done = stack.pop()
        if done:
            open_rules.discard(name)
            visits[name] = 1 + sum(visits[first] for first in firsts[name])
            if visits[name] > _MOST_VISITS:
                raise UsageError("the grammar's rules begin with one another in too many ways")
        elif name not in visits and name not in open_rules:
            open_rules.add(name)
            stack.append((name, True))
            for first in firsts[name]:
                if first in open_rules:
                    raise UsageError(f"the grammar's rule {first} begins with itself (left recursion)")
                stack.append((first, False))


def _firsts(name: str, alternatives: Alternatives, nullable: set[str]) -> list[str]:
    """Rules that an alternative may begin with, one by one."""
    empty = {rule: 0.0 if rule in nullable else 1.0 for rule in nullable | set(_references(alternatives))}
    found: list[str] = []
    for items in alternatives:
        for item in items:
            if item.rule:
                found.append(item.rule)
            elif item.group:
                found += _firsts(name, item.group, nullable)
                if math.isinf(item.most) and not _length(item.group, empty):
                    raise UsageError(f"the grammar's rule {name} repeats what may be empty")
            if _item_length(item, empty):
                break
    return found
