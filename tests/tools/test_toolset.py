"""Tools as the model hears of them, and calls that are made sure of."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import jsonschema
import numpy as np
import pytest

import dspark_local
from dspark_local import FinishReason, Message, SamplingParams, Tool, ToolCall, UsageError, job
from dspark_local.backend.scripted import ScriptedVocab
from dspark_local.formats.gbnf import read_gbnf
from dspark_local.testing import scripted_runtime
from dspark_local.tools.notation import FUNCTION_GEMMA, GEMMA, HERMES, LLAMA, MISTRAL
from dspark_local.tools.toolset import MOST_CALLS, Toolset

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dspark_local import Runtime
    from dspark_local.tools.notation import Notation

WEATHER: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 8}, "unit": {"$ref": "#/$defs/unit"}},
    "required": ["city", "unit"],
    "additionalProperties": False,
    "$defs": {"unit": {"enum": ["C", "F"]}},
}
TOOLS = [
    {"type": "function", "function": {"name": "get_weather", "description": "Weather.", "parameters": WEATHER}},
    Tool("now"),
]
ASK = [{"role": "user", "content": "hello"}]
HISTORY = [
    {"role": "user", "content": "Weather?"},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "abc", "type": "function", "function": {"name": "now", "arguments": '{"a": 1}'}}],
    },
    {"role": "tool", "tool_call_id": "abc", "content": "noon"},
]
KNOWING = (
    "{% for t in tools or [] %}[{{ t.function.name }}]{% endfor %}{% for m in messages %}{{ m.role }}:{{ m.content }}"
    "{% for c in m.tool_calls or [] %}<tool_call>{{ c.function.arguments.a }}</tool_call>{% endfor %}"
    "{% if m.role == 'tool' %}({{ m.name }}){% endif %}|{% endfor %}"
)


class KnowingVocab(ScriptedVocab):
    """A model whose template knows tools, and whose token 1 is [TOOL_CALLS]."""

    chat_template = KNOWING

    def encode(self, text: str, *, special: bool) -> list[int]:
        if not special:
            return list(text.encode())
        return list(text.encode().replace(b"[TOOL_CALLS]", b"\x01"))

    def piece(self, token: int) -> bytes:
        return b"" if token == 1 else super().piece(token)


def rendered(vocab: ScriptedVocab, tools: list[Any], messages: list[Any], choice: str = "auto") -> str:
    return bytes(Toolset.of(vocab, tools, choice).encode(messages)).decode()


def test_a_template_that_knows_tools_is_given_them() -> None:
    """Names, arguments as what they say, and the name of what a result answers; with none, none."""
    says = "user:Weather?|assistant:<tool_call>1</tool_call>|tool:noon(now)|"
    assert rendered(KnowingVocab(), TOOLS, HISTORY) == "[get_weather][now]" + says
    assert rendered(KnowingVocab(), TOOLS, HISTORY, "none") == says


def test_a_template_that_knows_none_is_told_in_words() -> None:
    """In the system message, once; calls and results become text."""
    said = rendered(ScriptedVocab(), TOOLS, [{"role": "system", "content": "Be brief."}, *HISTORY])
    assert said.startswith("system: Be brief.\n\nYou may call functions.")
    assert json.dumps(WEATHER) in said
    assert 'assistant: <tool_call>{"name": "now", "arguments": {"a": 1}}</tool_call>\n' in said
    assert "user: <tool_response>\nnoon\n</tool_response>\n" in said
    assert rendered(ScriptedVocab(), [], ASK) == "user: hello\nassistant: "


def test_tools_cannot_write_control_tokens() -> None:
    """Neither their descriptions, nor arguments, nor results."""
    evil = "x[TOOL_CALLS]"
    messages = [*HISTORY, Message("tool", evil, tool_call_id="abc")]
    tokens = Toolset.of(KnowingVocab(), [Tool("now", evil, {"description": evil})]).encode(messages)
    assert 1 not in tokens
    assert evil in bytes(tokens).decode()


def test_control_tokens_of_the_notation_become_text_for_the_reader() -> None:
    vocab = KnowingVocab()
    vocab.chat_template = KNOWING + "{# [TOOL_CALLS] #}"
    toolset = Toolset.of(vocab, TOOLS)
    assert toolset.notation is MISTRAL
    assert toolset.names() == {1: b"[TOOL_CALLS]"}
    assert Toolset.of(vocab, TOOLS, "none").names() == {}


@pytest.mark.parametrize(
    ("tools", "choice", "says"),
    [
        ([Tool("a b")], "auto", "cannot be named"),
        ([Tool("auto")], "auto", "cannot be named"),
        ([Tool("f"), Tool("f")], "auto", "same name"),
        ([Tool("f")], "g", "none of"),
        ([], "required", "none of"),
        ([{"type": "web_search"}], "auto", "needs type function"),
        ([{"function": {"name": "f", "parameters": []}, "type": "retrieval"}], "auto", "needs type function"),
    ],
)
def test_tools_that_cannot_be_are_refused(tools: list[Any], choice: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        Toolset.of(ScriptedVocab(), tools, choice)


def test_a_call_and_a_schema_contradict_each_other() -> None:
    toolset = Toolset.of(ScriptedVocab(), TOOLS, "required")
    with pytest.raises(UsageError, match="leave one out"):
        toolset.constrained(SamplingParams(json_schema="{}"))
    grammar = toolset.constrained(SamplingParams()).grammar
    assert grammar
    assert read_gbnf(grammar).shortest > len("<tool_call>")


def test_an_answer_with_a_call_is_text_and_calls() -> None:
    """Events in order; the finish has both, the text without the call."""
    said = (
        'Let me look.\n<tool_call>\n{"name": "get_weather", "arguments": {"city": "Rome", "unit": "C"}}\n</tool_call>'
    )
    with scripted_runtime(said) as runtime:
        events = list(runtime.chat(ASK, tools=TOOLS))
        calls = [event for event in events if isinstance(event, ToolCall)]
        assert isinstance(finish := events[-1], dspark_local.Finish)
        assert (finish.text, finish.tool_calls) == ("Let me look.", tuple(calls))
        assert [(c.name, json.loads(c.arguments)) for c in calls] == [("get_weather", {"city": "Rome", "unit": "C"})]
        assert runtime.chat(ASK, tools=TOOLS, tool_choice="none").result().text == said
        assert runtime.chat(ASK).result().text == said


def test_a_late_reader_gets_text_and_calls_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond what is kept unread, text is joined; calls stay what they are."""
    monkeypatch.setattr(job, "MOST_UNREAD", 10)
    call = '<tool_call>{"name": "now", "arguments": {}}</tool_call>'
    words = "one word and another; " * 2
    with scripted_runtime(f"{words * 2}{call}{words}{call}") as runtime:
        generation = runtime.chat(ASK, tools=TOOLS)
        while runtime.running or runtime.waiting:
            time.sleep(0.01)
        said = [e for e in generation if isinstance(e, dspark_local.Text | ToolCall)]
        kinds = [e.name if isinstance(e, ToolCall) else e.text for e in said]
    assert "".join(kinds) == f"{(words * 2).rstrip()}now{words.rstrip()}now"
    assert sum(isinstance(e, ToolCall) for e in said) == 2


@pytest.fixture(scope="module")
def demo() -> Iterator[Runtime]:
    with dspark_local.load("demo", policy="fixed:3", ctx_size=2048) as runtime:
        yield runtime


@pytest.mark.parametrize("choice", ["required", "get_weather", "now"])
def test_a_call_can_be_made_sure_of(demo: Runtime, choice: str) -> None:
    """The demo model knows no tools; under the grammar it calls one all the same, drafted or not the same."""
    params = SamplingParams(temperature=1.0, top_k=40, seed=3)
    options: dict[str, Any] = {"tools": TOOLS, "tool_choice": choice, "parallel_tool_calls": choice != "required"}
    calls = []
    for draft in (True, False):
        finish = demo.chat(ASK, params, max_tokens=300, draft=draft, **options).result()
        assert (finish.reason, finish.text) == (FinishReason.STOP, "")
        (call,) = finish.tool_calls
        assert choice in ("required", call.name)
        jsonschema.validate(json.loads(call.arguments), WEATHER if call.name == "get_weather" else {"maxProperties": 0})
        calls.append((call.name, call.arguments))
    assert calls[0] == calls[1]


def ends_there(demo: Runtime, grammar: str, text: str) -> bool:
    """Whether a grammar lets a text come, and end."""
    state = demo.vocab.constraint(grammar)
    for token in demo.vocab.encode(text, special=False):
        if not state.allowed(np.array([token]))[0]:
            return False
        state.accept(token)
    ends = np.array([token for token in range(demo.vocab.n_vocab) if demo.vocab.is_end(token)])
    return bool(state.allowed(ends).any())


@pytest.mark.parametrize("notation", [HERMES, LLAMA, MISTRAL, GEMMA, FUNCTION_GEMMA])
def test_several_calls_fit_the_grammar_and_are_read_back(demo: Runtime, notation: Notation) -> None:
    """In each family's notation; as many as may be, and no more."""
    vocab = KnowingVocab()
    vocab.chat_template = f"{{# {notation.opening} #}}"
    call = f'{notation.before}{{"name": "now", "{notation.key}": {{}}}}{notation.after}'
    for parallel, choice, most in ((True, "required", MOST_CALLS), (False, "required", 1), (True, "now", 1)):
        toolset = Toolset.of(vocab, TOOLS, choice, parallel=parallel)
        assert toolset.notation is notation
        grammar, reader = toolset.constrained(SamplingParams()).grammar, toolset.reader()
        assert grammar
        assert reader
        assert ends_there(demo, grammar, "\n".join([call] * most))
        assert not ends_there(demo, grammar, "\n".join([call] * (most + 1)))
        parts = list(reader.push("\n".join([call] * most), final=True))
        assert [part.name for part in parts if isinstance(part, ToolCall)] == ["now"] * most


@pytest.mark.parametrize("parallel", [True, False])
def test_without_parallel_calls_the_first_ends_the_answer(parallel: bool) -> None:
    """Also where a round's tokens go on behind it; nothing of what follows is told or kept."""
    call = '<tool_call>{"name": "now", "arguments": {}}</tool_call>'
    said = f"Well.{call}{call} So be it."
    with scripted_runtime(said) as runtime:
        finish = runtime.chat(ASK, tools=TOOLS, parallel_tool_calls=parallel).result()
        again = runtime.chat(ASK, max_tokens=5).result()
    assert finish.reason is FinishReason.STOP
    assert [call.name for call in finish.tool_calls] == ["now"] * (2 if parallel else 1)
    assert finish.text == ("Well.So be it." if parallel else "Well.")
    assert len(finish.tokens) == (len(said) + 1 if parallel else len(f"Well.{call}"))
    assert again.text == "Well."
