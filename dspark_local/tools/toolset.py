"""The tools of a request: how the model is told of them, and how a call is made sure of and read."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Self

from dspark_local.chat import Message, encode_chat, template_of
from dspark_local.errors import UsageError
from dspark_local.formats.json_schema import schema_to_gbnf
from dspark_local.tools.notation import Notation, notation_of
from dspark_local.tools.reader import CallReader

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dspark_local.backend.base import Vocab
    from dspark_local.types import SamplingParams

AUTO, NONE, REQUIRED = "auto", "none", "required"
MOST_CALLS = 16  # that a grammar allows: a model that does not know when to end has to
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
# For models whose template knows no tools: Hermes' notation, in words of ours.
_TOLD = (
    "You may call functions. Each line is one, with the JSON schema of its arguments:\n{functions}\n"
    'To call one, write <tool_call>{{"name": its name, "arguments": {{its arguments}}}}</tool_call>, and nothing more.'
)


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that the model may call; `parameters` is the JSON schema of its arguments."""

    name: str
    description: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, value: Tool | Mapping[str, Any]) -> Tool:
        """A tool, or the mapping that OpenAI's API has for one. Raises UsageError."""
        if isinstance(value, Tool):
            return value
        if not isinstance(value, Mapping):
            raise UsageError(f"a tool is a Tool, or a mapping as OpenAI's API has one, not {value!r:.40}")
        given = value.get("function", value)
        name, parameters = given.get("name"), given.get("parameters") or {}
        if value.get("type", "function") != "function" or not isinstance(name, str) or not isinstance(parameters, dict):
            raise UsageError("a tool needs type function, a name, and parameters that are a JSON schema")
        return cls(name, given.get("description") or "", parameters)

    def spelled(self) -> dict[str, Any]:
        """As OpenAI's API and chat templates have it."""
        parameters = dict(self.parameters) or {"type": "object", "properties": {}}
        function = {"name": self.name, "description": self.description, "parameters": parameters}
        return {"type": "function", "function": function}


@dataclass(frozen=True, slots=True)
class Toolset:
    """Tools, and which of them may or must be called: auto, required, or one by its name, which is called once.

    In the first two cases there may be several calls if `parallel`, else there is one at most.
    Without tools, or with the choice none, it is empty: the model hears of none, and its text stays as it is.
    """

    vocab: Vocab
    tools: tuple[Tool, ...]
    choice: str
    parallel: bool = True

    @classmethod
    def of(
        cls, vocab: Vocab, tools: Sequence[Tool | Mapping[str, Any]], choice: str = AUTO, *, parallel: bool = True
    ) -> Self:
        """Raises UsageError for tools or a choice that cannot be."""
        found = tuple(Tool.of(tool) for tool in tools)
        names = [tool.name for tool in found]
        for name in names:
            if not _NAME.fullmatch(name) or name in (AUTO, NONE, REQUIRED):
                raise UsageError(f"a tool cannot be named {name!r}; use letters, digits, _ and -, 64 at most")
        if len(set(names)) < len(names):
            raise UsageError("two tools have the same name")
        if choice not in (AUTO, NONE, *([REQUIRED] if found else []), *names):
            raise UsageError(f"the tool choice {choice!r} is none of auto, none, required and the tools' names")
        return cls(vocab, () if choice == NONE else found, choice, parallel)

    @property
    def forced(self) -> bool:
        """Whether the answer has to be a call."""
        return bool(self.tools) and self.choice != AUTO

    @property
    def notation(self) -> Notation:
        """How this model writes calls."""
        return notation_of(self.vocab.chat_template or "")

    def encode(
        self, messages: Sequence[Message | Mapping[str, Any]], options: Mapping[str, Any] | None = None
    ) -> list[int]:
        """Tokens of a conversation in which these tools may be called. Options and errors are `encode_chat`'s."""
        turns = [Message.of(message) for message in messages]
        if template_of(self.vocab).knows_tools:
            return encode_chat(self.vocab, turns, [tool.spelled() for tool in self.tools], options)
        return encode_chat(self.vocab, self._told([_plain(turn) for turn in turns]), options=options)

    def constrained(self, sampling: SamplingParams) -> SamplingParams:
        """The same sampling, but so that a call comes out where it has to. Raises UsageError where that cannot be."""
        if not self.forced:
            return sampling
        if sampling.grammar is not None or sampling.json_schema is not None:
            raise UsageError("an answer cannot be a tool call and fit a grammar or a JSON schema; leave one out")
        return replace(sampling, grammar=self._grammar())

    def reader(self) -> CallReader | None:
        """What finds the calls in an answer."""
        if not self.tools:
            return None
        notation, names = self.notation, frozenset(tool.name for tool in self.tools)
        return CallReader(notation, names, inside=self.forced and not notation.before, single=not self.parallel)

    def names(self) -> dict[int, bytes]:
        """Control tokens of the notation, and their text, which the reader has to see."""
        found = {}
        for mark in self.notation.marks if self.tools else ():
            tokens = self.vocab.encode(mark, special=True)
            if len(tokens) == 1 and not self.vocab.piece(tokens[0]):
                found[tokens[0]] = mark.encode()
        return found

    def _grammar(self) -> str:
        """Calls of tools that may be called, as JSON in the model's notation."""
        notation = self.notation
        calls = {}
        for tool in self.tools:
            if self.choice in (REQUIRED, tool.name):
                home = f"#/$defs/{tool.name}/properties/{notation.key}"
                arguments = _moved(dict(tool.parameters), home) or {"type": "object", "additionalProperties": False}
                calls[tool.name] = {
                    "type": "object",
                    "properties": {"name": {"const": tool.name}, notation.key: arguments},
                    "required": ["name", notation.key],
                }
        schema = {"anyOf": [{"$ref": f"#/$defs/{name}"} for name in calls], "$defs": calls}
        most = MOST_CALLS if self.parallel and self.choice == REQUIRED else 1
        return schema_to_gbnf(json.dumps(schema), before=notation.before, after=notation.after, most=most)

    def _told(self, turns: list[Message]) -> list[Message]:
        """The conversation, its system message telling of the tools."""
        if not self.tools:
            return turns
        lines = [json.dumps(tool.spelled()["function"], ensure_ascii=False) for tool in self.tools]
        text = _TOLD.format(functions="\n".join(lines))
        if turns and turns[0].role == "system":
            return [replace(turns[0], content=f"{turns[0].content}\n\n{text}"), *turns[1:]]
        return [Message("system", text), *turns]


def _plain(turn: Message) -> Message:
    """A turn for templates that know no tools: calls and results as text."""
    if turn.role == "tool":
        return Message("user", f"<tool_response>\n{turn.content}\n</tool_response>")
    calls = [
        f'<tool_call>{{"name": {json.dumps(c.name)}, "arguments": {c.arguments}}}</tool_call>' for c in turn.tool_calls
    ]
    return Message(turn.role, "\n".join(filter(None, [turn.content, *calls])), thinking=turn.thinking)


def _moved(schema: Any, home: str) -> Any:  # noqa: ANN401 - whatever JSON says
    """A schema whose references within itself hold at its new place."""
    if isinstance(schema, list):
        return [_moved(inner, home) for inner in schema]
    if not isinstance(schema, dict):
        return schema
    moved = {key: _moved(value, home) for key, value in schema.items()}
    if isinstance(path := schema.get("$ref"), str) and path.startswith("#"):
        moved["$ref"] = home + path[1:]
    return moved
