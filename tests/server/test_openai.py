"""OpenAI's own client before the demo pair: the library's own answers, in OpenAI's words."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import jsonschema
import openai
import pytest

from dspark_local import SamplingParams

from .conftest import ASK

if TYPE_CHECKING:
    from .conftest import Served

DRAWN: dict[str, Any] = {"temperature": 0.8, "top_p": 0.9, "seed": 7}
PARAMS = SamplingParams(**DRAWN)
CITY = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 9}, "unit": {"enum": ["C", "F"]}},
    "required": ["city", "unit"],
    "additionalProperties": False,
}
FUNCTION = {"name": "weather", "description": "Of a city.", "parameters": CITY}
TOOLS: Any = [{"type": "function", "function": FUNCTION}]


def test_an_answer_is_the_librarys_own(demo: Served) -> None:
    """The same seed, the same text; usage and timings are the sums of the library's statistics."""
    own = demo.runtime.chat(ASK, PARAMS, max_tokens=60).result()
    got = demo.openai().chat.completions.create(model="demo", messages=ASK, max_tokens=60, **DRAWN)
    assert got.choices[0].message.content == own.text
    assert got.choices[0].finish_reason == {"stop": "stop", "length": "length"}[own.reason]
    assert got.usage
    assert (got.usage.prompt_tokens, got.usage.completion_tokens) == (own.stats.prompt_n, own.stats.predicted_n)
    timings = got.model_extra["timings"] if got.model_extra else {}
    assert timings["draft_n_accepted"] > 0
    for name in ("prompt_n", "predicted_n", "draft_n", "draft_n_accepted", "seed"):
        assert timings[name] == getattr(own.stats, name), name


def test_a_stream_is_the_same_answer_in_pieces(demo: Served) -> None:
    """Role first, reason and usage last, the timings in the last chunk."""
    chunks = list(
        demo.openai().chat.completions.create(
            model="demo", messages=ASK, max_tokens=60, stream=True, stream_options={"include_usage": True}, **DRAWN
        )
    )
    own = demo.runtime.chat(ASK, PARAMS, max_tokens=60).result()
    deltas = [choice.delta for chunk in chunks for choice in chunk.choices]
    assert "".join(delta.content or "" for delta in deltas) == own.text
    assert len(deltas) > 4
    assert deltas[0].role == "assistant"
    assert chunks[-2].choices[0].finish_reason
    assert chunks[-1].choices == []
    assert chunks[-1].usage
    assert chunks[-1].usage.completion_tokens == own.stats.predicted_n
    assert chunks[-1].model_extra
    assert chunks[-1].model_extra["timings"]["draft_n"] == own.stats.draft_n
    assert len({chunk.id for chunk in chunks}) == 1


@pytest.mark.parametrize("stop", [None, [" of"]])
def test_log_probabilities_are_those_of_the_tokens_that_count(demo: Served, stop: list[str] | None) -> None:
    """The same whole and streamed, also where a stop string cuts a round; the end token is none of them."""
    client, extra = demo.openai(), {"stop": stop} if stop else {}
    own = demo.runtime.chat(ASK, SamplingParams(logprobs=2), max_tokens=50, stop=stop or ()).result()
    want = [entry.logprob for entry in own.logprobs if not demo.runtime.vocab.is_end(entry.token)]
    whole = client.chat.completions.create(
        model="demo", messages=ASK, max_tokens=50, logprobs=True, top_logprobs=2, **extra
    )
    assert whole.choices[0].logprobs
    assert whole.choices[0].logprobs.content
    assert [entry.logprob for entry in whole.choices[0].logprobs.content] == want
    assert all(entry.top_logprobs[0].token == entry.token for entry in whole.choices[0].logprobs.content)
    streamed = [
        entry
        for chunk in client.chat.completions.create(
            model="demo", messages=ASK, max_tokens=50, logprobs=True, top_logprobs=2, stream=True, **extra
        )
        for choice in chunk.choices
        if choice.logprobs
        for entry in choice.logprobs.content or ()
    ]
    assert [entry.logprob for entry in streamed] == want
    if not stop:
        assert b"".join(bytes(entry.bytes or ()) for entry in streamed).decode() == own.text


@pytest.mark.parametrize("stream", [False, True])
def test_a_tool_call_can_be_required(demo: Served, stream: bool) -> None:
    """The arguments fit the schema, and the client's own accumulation of a stream gives the same call."""
    client = demo.openai()
    wanted: dict[str, Any] = {"model": "demo", "messages": ASK, "tools": TOOLS, "temperature": 0.7, "seed": 3}
    if stream:
        more: Any = {"tool_choice": "required", "parallel_tool_calls": False}
        with client.chat.completions.stream(max_tokens=200, **more, **wanted) as events:
            choice: Any = events.get_final_completion().choices[0]
    else:
        named = {"type": "function", "function": {"name": "weather"}}
        choice = client.chat.completions.create(tool_choice=named, max_tokens=200, **wanted).choices[0]
    assert choice.finish_reason == "tool_calls"
    assert not choice.message.content
    (call,) = choice.message.tool_calls
    assert call.function.name == "weather"
    jsonschema.validate(json.loads(call.function.arguments), CITY)


@pytest.mark.parametrize("stream", [False, True])
def test_several_calls_can_be_required(demo: Served, stream: bool) -> None:
    """A model that does not know when to end goes on calling; each call is whole, with index and id of its own."""
    tool = {"type": "function", "function": {"name": "now"}}
    wanted: dict[str, Any] = {"model": "demo", "messages": ASK, "tools": [tool], "max_tokens": 120}
    if stream:
        deltas = demo.openai().chat.completions.create(tool_choice="required", stream=True, **wanted)
        parts = [choice.delta for chunk in deltas for choice in chunk.choices]  # type: ignore[union-attr] # a stream
        calls: Any = [call for delta in parts for call in delta.tool_calls or ()]
        assert [call.index for call in calls] == list(range(len(calls)))
    else:
        calls = demo.openai().chat.completions.create(tool_choice="required", **wanted).choices[0].message.tool_calls
    assert len(calls) > 1
    assert {(call.function.name, call.function.arguments) for call in calls} == {("now", "{}")}
    assert len({call.id for call in calls}) == len(calls)


def test_a_conversation_goes_on_behind_a_call(demo: Served) -> None:
    """What the assistant called and what the tool gave come back, and are a part of the prompt."""
    client = demo.openai()
    first = client.chat.completions.create(
        model="demo", messages=ASK, tools=TOOLS, tool_choice="required", parallel_tool_calls=False, max_tokens=200
    )
    said = first.choices[0].message
    assert said.tool_calls
    result = {"role": "tool", "tool_call_id": said.tool_calls[0].id, "content": "sunny"}
    turns: Any = [*ASK, said.model_dump(exclude_none=True), result]
    second = client.chat.completions.create(model="demo", messages=turns, tools=TOOLS, max_tokens=8)
    assert first.usage
    assert second.usage
    assert second.usage.prompt_tokens > first.usage.prompt_tokens


@pytest.mark.parametrize("form", ["json_object", "json_schema"])
def test_a_response_format_is_kept(demo: Served, form: str) -> None:
    wanted: Any = {"type": form}
    if form == "json_schema":
        wanted["json_schema"] = {"name": "city", "schema": CITY, "strict": True}
    got = demo.openai().chat.completions.create(
        model="demo", messages=ASK, max_tokens=300, response_format=wanted, temperature=0.9, seed=1
    )
    if form == "json_schema":
        jsonschema.validate(json.loads(got.choices[0].message.content or ""), CITY)
    assert (got.choices[0].message.content or "").startswith("{")


@pytest.mark.parametrize("stream", [False, True])
def test_a_completion_continues_a_text(demo: Served, stream: bool) -> None:
    own = demo.runtime.generate("import random\n", PARAMS, max_tokens=20).result()
    got: Any = demo.openai().completions.create(
        model="demo", prompt="import random\n", max_tokens=20, logprobs=1, stream=stream, **DRAWN
    )
    parts = list(got) if stream else [got]
    assert "".join(part.choices[0].text for part in parts) == own.text
    tokens = [token for part in parts for token in part.choices[0].logprobs.tokens]
    assert "".join(tokens) == own.text
    offsets = [offset for part in parts for offset in part.choices[0].logprobs.text_offset]
    assert [own.text[i:].startswith(token) for i, token in zip(offsets, tokens, strict=True)] == [True] * len(tokens)


def test_a_completion_takes_tokens_too(demo: Served) -> None:
    tokens = demo.runtime.vocab.encode("import random\n", special=True)
    own = demo.runtime.generate(tokens, max_tokens=5).result().text
    for prompt in (tokens, [tokens], ["import random\n"]):
        got: Any = demo.openai().completions.create(model="demo", prompt=prompt, max_tokens=5)
        assert got.choices[0].text == own


def test_responses_answer_whole_and_as_events(demo: Served) -> None:
    """The client's accumulation of the events, the events' own response, and the whole one agree."""
    client, own = demo.openai(), demo.runtime.chat(ASK, PARAMS).result()
    want = {"model": "demo", "input": ASK[0]["content"], "temperature": 0.8, "top_p": 0.9, "extra_body": {"seed": 7}}
    whole: Any = client.responses.create(**want)  # type: ignore[call-overload] # a dict of options
    assert (whole.output_text, whole.status) == (own.text, "completed")
    assert whole.usage.output_tokens == own.stats.predicted_n
    with client.responses.stream(**want) as events:
        kinds = [event.type for event in events]
        assert events.get_final_response().output_text == own.text
    assert kinds[:4] == [
        *("response.created", "response.in_progress"),
        *("response.output_item.added", "response.content_part.added"),
    ]
    assert kinds[-4:] == [
        *("response.output_text.done", "response.content_part.done"),
        *("response.output_item.done", "response.completed"),
    ]


def test_responses_call_tools_and_take_their_results(demo: Served) -> None:
    client = demo.openai()
    tools: Any = [{"type": "function", **FUNCTION, "strict": True}]
    once: Any = {"tool_choice": "required", "parallel_tool_calls": False}
    with client.responses.stream(model="demo", input="Hi", tools=tools, **once) as events:
        (call,) = events.get_final_response().output
    assert call.type == "function_call"
    jsonschema.validate(json.loads(call.arguments), CITY)
    turns: Any = [
        {"role": "user", "content": [{"type": "input_text", "text": "Hi"}]},
        call.model_dump(exclude_none=True, exclude={"parsed_arguments"}),
        {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"},
    ]
    got = client.responses.create(model="demo", instructions="Be brief.", input=turns, tools=tools, max_output_tokens=5)
    assert (got.status, got.incomplete_details and got.incomplete_details.reason) == ("incomplete", "max_output_tokens")


def test_responses_keep_a_format_and_log_probabilities(demo: Served) -> None:
    got: Any = demo.openai().responses.create(
        model="demo",
        input="Hi",
        text={"format": {"type": "json_schema", "name": "city", "schema": CITY}},
        include=["message.output_text.logprobs"],
        top_logprobs=1,
    )
    jsonschema.validate(json.loads(got.output_text), CITY)
    logged = got.output[0].content[0].logprobs
    assert b"".join(bytes(entry.bytes) for entry in logged).decode() == got.output_text


def test_models_are_listed_and_found(demo: Served) -> None:
    client = demo.openai()
    assert [model.id for model in client.models.list()] == ["demo"]
    assert client.models.retrieve("demo").id == "demo"
    with pytest.raises(openai.NotFoundError, match="no model 'gpt'"):
        client.models.retrieve("gpt")
