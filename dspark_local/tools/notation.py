"""How model families write calls, and which one a chat template speaks.

- hermes (Qwen, Hermes and many others): `<tool_call>{"name": …, "arguments": {…}}</tool_call>`.
- llama (3.1 and later): the answer is `{"name": …, "parameters": {…}}`, with `<|python_tag|>` before it or not.
- mistral: `[TOOL_CALLS][{"name": …, "arguments": {…}}]`; since its version 11 `[TOOL_CALLS]name[ARGS]{…}`.
- gemma: `<|tool_call>call:name{…}<tool_call|>`, or FunctionGemma's `<start_function_call>…<end_function_call>`; the
  braces hold a notation of its own (gemma.py).

Sources: the makers' chat templates and documentation.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dspark_local.tools import gemma

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Call = tuple[str, dict[str, Any]]  # name, arguments
_BETWEEN = re.compile(r"[\s;,]*")
_NAMED = re.compile(r"\s*([\w.-]+)(?:\[CALL_ID\][\w-]+)?(?:\[ARGS\])?\s*(?=\{)")
_DECODER = json.JSONDecoder()


@dataclass(frozen=True, slots=True)
class Notation:
    """One family's way to write calls.

    A call begins behind `opening` and ends before `closing`, or at the next opening if there is none; with `bare`, an
    answer that begins like the JSON of a call is one too. `read` makes calls of what stands between, or raises
    ValueError. A call that is made sure of is JSON between `before` and `after`, its arguments under `key`. `others`
    are further control tokens within a call.
    """

    name: str
    opening: str
    closing: str = ""
    bare: bool = False
    key: str = "arguments"
    before: str = ""
    after: str = ""
    others: tuple[str, ...] = ()
    read: Callable[[str], list[Call]] = field(default=lambda text: list(json_calls(text)))

    @property
    def marks(self) -> tuple[str, ...]:
        """What may be control tokens."""
        return tuple(filter(None, (self.opening, self.closing, *self.others)))


def json_calls(text: str) -> Iterator[Call]:
    """Calls in JSON: objects one after the other, or in a list. Raises ValueError."""
    at = _after(_BETWEEN, text, 0)
    while at < len(text):
        value, at = _decoded(text, at)
        for call in value if isinstance(value, list) else [value]:
            yield _call(call)
        at = _after(_BETWEEN, text, at)


def _call(value: Any) -> Call:  # noqa: ANN401 - whatever JSON says
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        raise ValueError("no call")  # noqa: TRY004 - it is the text that is wrong
    arguments: Any = next((value[key] for key in ("arguments", "parameters") if key in value), {})
    if isinstance(arguments, str):
        arguments = _decoded(arguments, 0)[0]
    if not isinstance(arguments, dict):
        raise ValueError("arguments are an object")  # noqa: TRY004 - as above
    return value["name"], arguments


def _mistral(text: str) -> list[Call]:
    found = _NAMED.match(text)
    if not found:
        return list(json_calls(text))
    arguments, end = _decoded(text, found.end())
    if text[end:].strip():
        raise ValueError("more than a call")
    return [(found[1], arguments)]


def _gemma(text: str) -> list[Call]:
    return [gemma.read_call(text)] if text.lstrip().startswith(gemma.CALL) else list(json_calls(text))


def _decoded(text: str, at: int) -> tuple[Any, int]:
    try:
        return _DECODER.raw_decode(text, at)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _after(pattern: re.Pattern[str], text: str, at: int) -> int:
    match = pattern.match(text, at)
    assert match, "it matches nothing too"
    return match.end()


HERMES = Notation("hermes", "<tool_call>", "</tool_call>", before="<tool_call>\n", after="\n</tool_call>")
LLAMA = Notation("llama", "<|python_tag|>", bare=True, key="parameters")
MISTRAL = Notation("mistral", "[TOOL_CALLS]", others=("[ARGS]", "[CALL_ID]"), read=_mistral)
GEMMA = Notation("gemma", "<|tool_call>", "<tool_call|>", others=gemma.QUOTES, read=_gemma)
FUNCTION_GEMMA = Notation(
    "functiongemma", "<start_function_call>", "<end_function_call>", others=gemma.QUOTES, read=_gemma
)
_KNOWN = (MISTRAL, GEMMA, FUNCTION_GEMMA, HERMES)


def notation_of(template: str) -> Notation:
    """The notation that a chat template speaks; hermes for one that names none."""
    spoken = next((notation for notation in _KNOWN if notation.opening in template), None)
    if spoken:
        return spoken
    speaks_llama = LLAMA.opening in template or ("ipython" in template and '"parameters"' in template)
    return LLAMA if speaks_llama else HERMES
