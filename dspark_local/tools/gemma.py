"""Gemma's notation of a call: `call:name{key:value,…}`, strings between quotes that are tokens of their own.

Keys are bare; braces, brackets, numbers, true, false and null are as in JSON. The quotes are `<|"|>` in Gemma 4 and
`<escape>` in FunctionGemma; nothing in between is escaped.
Source: Google's documentation, "Function calling with Gemma 4" and "FunctionGemma formatting and best practices".
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

CALL = "call:"
QUOTES = ('<|"|>', "<escape>")
_DEEPEST = 64
_SPACE = re.compile(r"\s*")
_NAME = re.compile(r"\s*call:\s*([\w.-]+)\s*(?=\{)")
_KEY = re.compile(r"\s*([^\s:{}\[\],]+)\s*:")
_WORD = re.compile(r"[^\s{}\[\],]+")


def read_call(text: str) -> tuple[str, dict[str, Any]]:
    """Name and arguments of a call. Raises ValueError for what is none."""
    found = _NAME.match(text)
    if not found:
        raise ValueError("no call")
    reader = _Reader(text, found.end())
    arguments = reader.value(0)
    if text[reader.at :].strip() or not isinstance(arguments, dict):
        raise ValueError("more than a call")
    return found[1], arguments


@dataclass(slots=True)
class _Reader:
    text: str
    at: int

    def value(self, depth: int) -> Any:  # noqa: ANN401 - whatever the model says
        if depth > _DEEPEST:
            raise ValueError("nested too deeply")
        self._skip()
        for quote in QUOTES:
            if self._takes(quote):
                return self._until(quote)
        if self._takes("{"):
            return self._object(depth)
        if self._takes("["):
            return self._list(depth)
        if self.text.startswith('"', self.at):
            value, self.at = json.JSONDecoder().raw_decode(self.text, self.at)
            return value
        return json.loads(self._word())

    def _object(self, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        while not self._ends("}"):
            key = self._key()
            found[key] = self.value(depth + 1)
        return found

    def _key(self) -> str:
        for quote in QUOTES:
            if self._takes(quote):
                key = self._until(quote)
                self._skip()
                if not self._takes(":"):
                    raise ValueError("a key without a value")
                return key
        match = _KEY.match(self.text, self.at)
        if not match:
            raise ValueError("no key")
        self.at = match.end()
        return match[1].strip('"')

    def _list(self, depth: int) -> list[Any]:
        found = []
        while not self._ends("]"):
            found.append(self.value(depth + 1))
        return found

    def _ends(self, bracket: str) -> bool:
        """Whether the bracket closes here; else a comma may be passed."""
        self._skip()
        if self._takes(","):
            self._skip()
        if self.at >= len(self.text):
            raise ValueError("a bracket without its end")
        return self._takes(bracket)

    def _until(self, quote: str) -> str:
        text, found, _ = self.text[self.at :].partition(quote)
        if not found:
            raise ValueError("a string without its end")
        self.at += len(text) + len(quote)
        return text

    def _word(self) -> str:
        match = _WORD.match(self.text, self.at)
        if not match:
            raise ValueError("no value")
        self.at = match.end()
        return match[0]

    def _takes(self, text: str) -> bool:
        taken = self.text.startswith(text, self.at)
        self.at += len(text) * taken
        return taken

    def _skip(self) -> None:
        match = _SPACE.match(self.text, self.at)
        assert match, "it matches nothing too"
        self.at = match.end()
