"""Calls out of a stream: the same however it is cut, nothing lost, nothing invented."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspark_local.events import ToolCall
from dspark_local.tools.notation import FUNCTION_GEMMA, GEMMA, HERMES, LLAMA, MISTRAL, notation_of
from dspark_local.tools.reader import ID, CallReader

if TYPE_CHECKING:
    from dspark_local.tools.notation import Notation

NAMES = frozenset({"f", "get_weather"})
PARIS = ("get_weather", {"city": "Paris"})


def read(notation: Notation, pieces: list[str], *, inside: bool = False) -> tuple[str, list[tuple[str, Any]]]:
    reader = CallReader(notation, NAMES, inside)
    said = [part for piece in pieces for part in reader.push(piece)]
    said += reader.push("", final=True)
    text = "".join(part for part in said if isinstance(part, str))
    return text, [(part.name, json.loads(part.arguments)) for part in said if isinstance(part, ToolCall)]


CASES: list[tuple[Notation, str, str, list[tuple[str, Any]]]] = [
    (HERMES, '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call>', "", [PARIS]),
    (
        HERMES,
        'Sure.\n<tool_call>{"name": "f", "arguments": {}}</tool_call>\n<tool_call>\n{"name": "f"}</tool_call>\n',
        "Sure.",
        [("f", {}), ("f", {})],
    ),
    (HERMES, '<tool_call>{"name": "f", "arguments": {"a": [1, null]}}', "", [("f", {"a": [1, None]})]),
    (HERMES, '<tool_call>{"name": "f", "arguments": "{\\"a\\": 1}"}</tool_call>', "", [("f", {"a": 1})]),
    (LLAMA, '{"name": "get_weather", "parameters": {"city": "Paris"}}', "", [PARIS]),
    (
        LLAMA,
        '<|python_tag|>{"type": "function", "name": "f", "parameters": {}}; {"name": "f", "parameters": {"x": 2}}',
        "",
        [("f", {}), ("f", {"x": 2})],
    ),
    (
        MISTRAL,
        'Let me see.[TOOL_CALLS] [{"name": "get_weather", "arguments": {"city": "Paris"}, "id": "abcdefghi"}]',
        "Let me see.",
        [PARIS],
    ),
    (
        MISTRAL,
        '[TOOL_CALLS]get_weather[ARGS]{"city": "Paris"}[TOOL_CALLS]f[CALL_ID]call_abc12[ARGS]{"a": {"b": 1}}',
        "",
        [PARIS, ("f", {"a": {"b": 1}})],
    ),
    (MISTRAL, '[TOOL_CALLS]get_weather{"city": "Paris"}', "", [PARIS]),
    (
        GEMMA,
        '<|tool_call>call:f{a:<|"|>x{,}<|"|>,on:true,n:-3.5,xs:[1,<|"|>y<|"|>],o:{k:null}}<tool_call|>',
        "",
        [("f", {"a": "x{,}", "on": True, "n": -3.5, "xs": [1, "y"], "o": {"k": None}})],
    ),
    (
        FUNCTION_GEMMA,
        "<start_function_call>call:get_weather{city:<escape>Paris<escape>}<end_function_call>",
        "",
        [PARIS],
    ),
]


@pytest.mark.parametrize(("notation", "said", "text", "calls"), CASES)
def test_each_familys_calls_are_read(notation: Notation, said: str, text: str, calls: list[tuple[str, Any]]) -> None:
    """By hand, whole and character by character."""
    assert read(notation, [said]) == (text, calls)
    assert read(notation, list(said)) == (text, calls)


NOT_CALLS = [
    (HERMES, "a <tool_call>nonsense</tool_call> b"),
    (HERMES, '<tool_call>{"name": "rm", "arguments": {}}</tool_call>'),
    (HERMES, '<tool_call>{"name": "f", "arguments": [1]}</tool_call>'),
    (HERMES, '<tool_call>{"name": "f", "argu'),
    (HERMES, "1 < 2, <tool, <tool_call"),
    (HERMES, f"<tool_call>{'[' * 9999}</tool_call>"),
    (LLAMA, '{"temperature": 21}'),
    (LLAMA, '{"name": "Ada", "born": 1815}'),
    (LLAMA, 'Here: {"name": "f", "parameters": {}}'),
    (MISTRAL, "[TOOL_CALLS]f[ARGS]{"),
    (GEMMA, '<|tool_call>call:f{a:<|"|>x}<tool_call|>'),
    (GEMMA, f"<|tool_call>call:f{{a:{'[' * 9999}}}<tool_call|>"),
]


@pytest.mark.parametrize(("notation", "said"), NOT_CALLS)
def test_what_is_no_call_stays_text(notation: Notation, said: str) -> None:
    """Every character of it, also a call of a function that was never offered."""
    assert read(notation, [said]) == (said, [])
    assert read(notation, list(said)) == (said, [])


@given(st.sampled_from([HERMES, LLAMA, MISTRAL, GEMMA, FUNCTION_GEMMA]), st.lists(st.text(max_size=8), max_size=8))
def test_text_without_calls_passes_through(notation: Notation, pieces: list[str]) -> None:
    """Whatever it is, nothing is lost, white space included."""
    assert read(notation, pieces) == ("".join(pieces), [])


@given(st.sampled_from([case[:2] for case in CASES]), st.data())
def test_where_the_stream_is_cut_does_not_matter(case: tuple[Notation, str], data: st.DataObject) -> None:
    """Any two cuts give what the whole gives."""
    notation, said = case
    i, j = sorted(data.draw(st.tuples(*[st.integers(0, len(said))] * 2)))
    assert read(notation, [said[:i], said[i:j], said[j:]]) == read(notation, [said])


def test_a_call_that_is_made_sure_of_needs_no_opening() -> None:
    """Control tokens cannot be had under a grammar, so the answer is the JSON alone."""
    assert read(MISTRAL, ['{"name": "f", "arguments": {}}'], inside=True) == ("", [("f", {})])
    assert read(GEMMA, ['{"name": "f", "arguments": {}}'], inside=True) == ("", [("f", {})])


def test_ids_differ_and_have_the_length_that_templates_want() -> None:
    reader = CallReader(HERMES, NAMES)
    call = '<tool_call>{"name": "f", "arguments": {}}</tool_call>'
    ids = {part.id for part in reader.push(call * 20) if isinstance(part, ToolCall)}
    assert len(ids) == 20
    assert all(len(name) == ID and name.isalnum() for name in ids)


@pytest.mark.parametrize(
    ("template", "notation"),
    [
        ("{% if tools %}<tool_call>{% endif %}", HERMES),
        ("{{ '<|python_tag|>' }}", LLAMA),
        ('Environment: ipython … {"name": function name, "parameters": …}', LLAMA),
        ("[AVAILABLE_TOOLS][TOOL_CALLS]", MISTRAL),
        ("<|tool_call>call:", GEMMA),
        ("<start_function_call>", FUNCTION_GEMMA),
        ("{{ messages }}", HERMES),
    ],
)
def test_a_template_tells_its_notation(template: str, notation: Notation) -> None:
    assert notation_of(template) is notation
