"""Anthropic's own client before the demo pair."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anthropic
import jsonschema
import pytest

from dspark_local.chat import Message, encode_chat
from dspark_local.testing import scripted_runtime

from .conftest import ASK
from .test_openai import CITY

if TYPE_CHECKING:
    from .conftest import Serve, Served

TOOLS: Any = [{"name": "weather", "description": "Of a city.", "input_schema": CITY}]


def test_a_message_is_the_librarys_answer(demo: Served) -> None:
    own = demo.runtime.chat([Message("system", "Be brief."), Message("user", ASK[0]["content"])]).result()
    got = demo.anthropic().messages.create(model="demo", max_tokens=500, system="Be brief.", messages=ASK)
    assert [block.text for block in got.content if block.type == "text"] == [own.text]
    assert (got.stop_reason, got.stop_sequence) == ("end_turn", None)
    assert (got.usage.input_tokens, got.usage.output_tokens) == (own.stats.prompt_n, own.stats.predicted_n)


def test_a_stream_builds_up_the_same_message(demo: Served) -> None:
    client = demo.anthropic()
    whole = client.messages.create(model="demo", max_tokens=500, messages=ASK, stop_sequences=["module"])
    with client.messages.stream(model="demo", max_tokens=500, messages=ASK, stop_sequences=["module"]) as events:
        kinds = [event.type for event in events]
        streamed = events.get_final_message()
    assert streamed.content[0].type == whole.content[0].type == "text"
    assert streamed.content[0].text == whole.content[0].text
    assert (streamed.stop_reason, streamed.stop_sequence) == ("stop_sequence", "module")
    assert streamed.usage.output_tokens == whole.usage.output_tokens
    assert kinds[:2] == ["message_start", "content_block_start"]
    assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]


@pytest.mark.parametrize(
    "choice", [{"type": "any", "disable_parallel_tool_use": True}, {"type": "tool", "name": "weather"}]
)
def test_a_call_and_its_result(demo: Served, choice: Any) -> None:
    """The call's input fits the schema, streamed and whole; the conversation goes on behind its result."""
    client = demo.anthropic()
    wanted: dict[str, Any] = {"model": "demo", "max_tokens": 300, "tools": TOOLS}
    whole = client.messages.create(messages=ASK, tool_choice=choice, **wanted)
    with client.messages.stream(messages=ASK, tool_choice=choice, **wanted) as events:
        streamed = events.get_final_message()
    for got in (whole, streamed):
        assert got.stop_reason == "tool_use"
        (call,) = got.content
        assert call.type == "tool_use"
        jsonschema.validate(call.input, CITY)
    result = {"type": "tool_result", "tool_use_id": call.id, "content": [{"type": "text", "text": "sunny"}]}
    turns: Any = [*ASK, {"role": "assistant", "content": whole.content}, {"role": "user", "content": [result]}]
    after = client.messages.create(messages=turns, **{**wanted, "max_tokens": 5})
    assert after.usage.input_tokens > whole.usage.input_tokens
    assert after.stop_reason == "max_tokens"


@pytest.mark.parametrize("disabled", [False, True])
def test_several_calls_are_blocks_of_their_own(serve: Serve, disabled: bool) -> None:
    """Streamed as whole; where several are not wanted, the answer ends with the first."""
    said = [
        f'<tool_call>{{"name": "weather", "arguments": {{"city": "{city}"}}}}</tool_call>' for city in ("Rome", "Bonn")
    ]
    server = serve(scripted_runtime("Two calls.\n" + "\n".join(said)))
    choice: Any = {"type": "auto", "disable_parallel_tool_use": disabled}
    wanted: dict[str, Any] = {"model": "scripted", "max_tokens": 300, "tools": TOOLS, "tool_choice": choice}
    whole = server.anthropic().messages.create(messages=ASK, **wanted)
    with server.anthropic().messages.stream(messages=ASK, **wanted) as events:
        streamed = events.get_final_message()
    for got in (whole, streamed):
        text, *calls = got.content
        assert (text.type, got.stop_reason) == ("text", "tool_use")
        assert [call.input for call in calls if call.type == "tool_use"] == [{"city": "Rome"}, {"city": "Bonn"}][
            : 2 - disabled
        ]
        assert len({call.id for call in calls if call.type == "tool_use"}) == 2 - disabled


def test_tokens_are_counted_as_they_will_be(demo: Served) -> None:
    turns = [Message("system", "Be brief."), Message("user", ASK[0]["content"])]
    got = demo.anthropic().messages.count_tokens(model="demo", system="Be brief.", messages=ASK)
    assert got.input_tokens == len(encode_chat(demo.runtime.vocab, turns))


def test_thinking_is_a_block_of_its_own(serve: Serve) -> None:
    server = serve(scripted_runtime("<think>Hm.</think>Yes."))
    with server.anthropic().messages.stream(model="scripted", max_tokens=99, messages=ASK) as events:
        streamed = events.get_final_message().content
    whole = server.anthropic().messages.create(model="scripted", max_tokens=99, messages=ASK).content
    for thought, said in (whole, streamed):
        assert thought.type == "thinking"
        assert said.type == "text"
        assert (thought.thinking, said.text) == ("Hm.", "Yes.")


def test_a_last_turn_of_the_assistant_is_how_the_answer_begins(demo: Served) -> None:
    """Only what follows is told, as of one text; and it is counted."""
    turns: Any = [*ASK, {"role": "assistant", "content": "The function"}]
    own = demo.runtime.chat(ASK, begun="The function", max_tokens=8).result()
    got = demo.anthropic().messages.create(model="demo", max_tokens=8, messages=turns)
    assert [block.text for block in got.content if block.type == "text"] == [own.text]
    count = demo.anthropic().messages.count_tokens(model="demo", messages=turns)
    assert count.input_tokens == got.usage.input_tokens == own.stats.prompt_n


def test_errors_have_anthropics_shape(serve: Serve) -> None:
    server = serve(scripted_runtime(n_ctx=256))
    client = server.anthropic()
    with pytest.raises(anthropic.NotFoundError) as missing:
        client.messages.create(model="claude", max_tokens=5, messages=ASK)
    assert missing.value.body["error"]["type"] == "not_found_error"  # type: ignore[index] # JSON
    with pytest.raises(anthropic.BadRequestError, match="context holds"):
        client.messages.create(model="scripted", max_tokens=5, messages=[{"role": "user", "content": "x" * 999}])
    image: Any = {"type": "image", "source": {"type": "url", "url": "file:///etc/passwd"}}
    with pytest.raises(anthropic.BadRequestError, match="opens no file and no URL"):
        client.messages.create(model="scripted", max_tokens=5, messages=[{"role": "user", "content": [image]}])
    with pytest.raises(anthropic.BadRequestError, match="max_tokens"):
        client.messages.create(model="scripted", max_tokens=0, messages=ASK)
