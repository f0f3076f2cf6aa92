"""Calls out of a stream of text, whole; what only looked like a call stays text."""

from __future__ import annotations

import json
import re
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dspark_local.chat import overlap
from dspark_local.events import ToolCall

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dspark_local.tools.notation import Notation

ID = 9  # characters of a call's id; Mistral's templates refuse any other number
_BARE = re.compile(r'\{\s*"(?:name|type)"')
_BARE_SO_FAR = re.compile(r'\{\s*(?:"\w*"?)?$')


@dataclass(slots=True)
class CallReader:
    """Text in, text and calls out. `names` are the functions there are: a call of any other is text.

    `inside`: the answer is a call from its beginning. `single`: it is `over` with the first call. White space beside a
    call belongs to it.
    """

    notation: Notation
    names: frozenset[str]
    inside: bool = False
    single: bool = False
    over: bool = False
    _held: str = ""
    _space: str = ""  # at the end of the text so far, told when more text comes
    _mark: str = ""  # what opened the call that is being read
    _begun: bool = False  # something was told
    _called: bool = False  # and last a call

    def push(self, text: str, *, final: bool = False) -> Iterator[str | ToolCall]:
        """What is certain by now."""
        self._held += text
        while not self.over:
            if not self.inside:
                yield from self._outside(final=final)
            if not self.inside:
                break
            body, end, ended = self._body(final=final)
            if not ended:
                return
            yield from self._calls(body, end)
            self.inside = False
        if final and self._space:
            yield self._space

    def _outside(self, *, final: bool) -> Iterator[str]:
        """Text up to where a call may begin; it is `inside` then if one does."""
        before, found, after = self._held.partition(self.notation.opening)
        if self.notation.bare and not self._begun and (start := self._held.lstrip()):
            if _BARE.match(start):
                self._held, self.inside, self._mark = start, True, ""
                return
            if _BARE_SO_FAR.match(start) and not final:
                return
        if found:
            yield from self._tell(before)
            self._held, self.inside, self._mark = after, True, self.notation.opening
            return
        keep = 0 if final else overlap(self._held, self.notation.opening)
        text, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        yield from self._tell(text)

    def _body(self, *, final: bool) -> tuple[str, str, bool]:
        """What stands in the call, what closed it, and whether that is all."""
        closing = self.notation.closing
        body, found, after = self._held.partition(closing or self.notation.opening)
        if not found and not final:
            return "", "", False
        self._held = after if closing else found + after
        return body, found if closing else "", True

    def _calls(self, body: str, end: str) -> Iterator[str | ToolCall]:
        try:
            calls = self.notation.read(body)
        except ValueError:
            calls = []
        if not calls or any(name not in self.names for name, _ in calls):
            yield from self._tell(self._mark + body + end)
            return
        self._space, self._begun, self._called = "", True, True
        self.over = self.single
        for name, arguments in calls[:1] if self.single else calls:
            yield ToolCall(secrets.token_hex(5)[:ID], name, json.dumps(arguments, ensure_ascii=False))

    def _tell(self, text: str) -> Iterator[str]:
        text = self._space + text
        if self._called:
            text = text.lstrip()
        told = text.rstrip()
        self._space = text[len(told) :]
        if told:
            self._begun, self._called = True, False
            yield told
