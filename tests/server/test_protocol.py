"""Exact answers over the scripted backend: every field that a client may rely on."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import httpx
import openai
import pytest

from dspark_local.server.limits import Limits
from dspark_local.testing import scripted_runtime

from .conftest import ASK

if TYPE_CHECKING:
    from .conftest import Serve, Served

TOOLS: Any = [
    {"type": "function", "function": {"name": name, "parameters": {"type": "object"}}} for name in ("look", "listen")
]
CALLS = (
    'I will.\n<tool_call>{"name": "look", "arguments": {"at": "é"}}</tool_call>\n'
    '<tool_call>{"name": "listen", "arguments": {}}</tool_call>'
)


def events(response: httpx.Response) -> list[Any]:
    """Data of a stream's events; [DONE] as it is."""
    lines = [line.removeprefix("data: ") for line in response.text.split("\n") if line.startswith("data: ")]
    return [json.loads(line) if line.startswith("{") else line for line in lines]


def test_a_whole_answer_to_the_last_field(serve: Serve) -> None:
    server = serve(scripted_runtime("Grüße."))
    got = server.chat().json()
    assert got.pop("id").startswith("chatcmpl-")
    assert got.pop("created") > 0
    timings = got.pop("timings")
    assert (timings["predicted_n"], timings["prompt_n"]) == (9, got["usage"]["prompt_tokens"])
    assert timings["draft_n"] > timings["draft_n_accepted"] > 0
    prompt = len(b"user: What does random.choice do?\nassistant: ")
    assert got == {
        "object": "chat.completion",
        "model": "scripted",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Grüße."},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": prompt,
            "completion_tokens": 9,
            "total_tokens": prompt + 9,
            "prompt_tokens_details": {"cached_tokens": 0},
        },
    }


def test_a_stream_to_the_last_event(serve: Serve) -> None:
    """No half characters, one id, a reason in the last chunk alone, and then [DONE]."""
    server = serve(scripted_runtime("Grüße, 世界! 🦆"))
    response = server.chat(stream=True)
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    *chunks, done = events(response)
    assert done == "[DONE]"
    assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks) == "Grüße, 世界! 🦆"
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None] * (len(chunks) - 1) + ["stop"]
    assert all(("timings" in chunk) == (chunk is chunks[-1]) for chunk in chunks)


def test_a_silent_stream_is_kept_open(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """By comments, which the clients pass over, between events and never inside of one."""
    monkeypatch.setattr("dspark_local.server.streaming.PING", 0.02)
    server = serve(scripted_runtime("slow.", seconds=0.1))
    response = server.chat(stream=True)
    assert response.text.count(": still at it\n\n") > 2
    assert all(block.startswith(("data: ", ": ")) for block in response.text.strip().split("\n\n"))
    stream = server.openai().chat.completions.create(model="scripted", messages=ASK, stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == "slow."
    with server.anthropic().messages.stream(model="scripted", messages=ASK, max_tokens=9) as events:
        assert "".join(events.text_stream) == "slow."


@pytest.mark.parametrize(("stop", "text"), [("two", "one "), (["four", "thr"], "one two ")])
def test_stop_strings_end_the_answer_before_them(serve: Serve, stop: Any, text: str) -> None:
    server = serve(scripted_runtime("one two three"))
    choice = server.chat(stop=stop).json()["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"]) == (text, "stop")


def test_max_tokens_by_either_name_and_by_default(serve: Serve) -> None:
    server = serve(scripted_runtime("0123456789"), Limits(max_tokens=4))
    for more, text in (({"max_tokens": 3}, "012"), ({"max_completion_tokens": 5}, "01234"), ({}, "0123")):
        choice = server.chat(**more).json()["choices"][0]
        assert (choice["message"]["content"], choice["finish_reason"]) == (text, "length")


@pytest.mark.parametrize("stream", [False, True])
def test_thinking_is_reasoning_content(serve: Serve, stream: bool) -> None:
    server = serve(scripted_runtime("<think>Hm. Hm.</think>Yes."))
    response = server.chat(stream=stream)
    if stream:
        deltas = [chunk["choices"][0]["delta"] for chunk in events(response)[:-1]]
        message = {k: "".join(d.get(k, "") for d in deltas) for k in ("content", "reasoning_content")}
    else:
        message = response.json()["choices"][0]["message"]
    assert (message["reasoning_content"], message["content"]) == ("Hm. Hm.", "Yes.")


@pytest.mark.parametrize("parallel", [True, False])
def test_tool_calls_of_the_models_own_accord(serve: Serve, parallel: bool) -> None:
    """Text before them stays; without parallel calls the answer ends with the first."""
    server = serve(scripted_runtime(CALLS))
    want = [("look", '{"at": "é"}'), ("listen", "{}")][: 2 if parallel else 1]
    whole = server.chat(tools=TOOLS, parallel_tool_calls=parallel).json()["choices"][0]
    assert (whole["finish_reason"], whole["message"]["content"]) == ("tool_calls", "I will.")
    *chunks, _ = events(server.chat(tools=TOOLS, parallel_tool_calls=parallel, stream=True))
    streamed = [call for chunk in chunks for call in chunk["choices"][0]["delta"].get("tool_calls", ())]
    assert [call["index"] for call in streamed] == list(range(len(want)))
    assert chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"
    for calls in (whole["message"]["tool_calls"], streamed):
        assert [(call["function"]["name"], call["function"]["arguments"]) for call in calls] == want
        assert len({call["id"] for call in calls}) == len(want)


def test_with_tool_choice_none_there_are_no_calls(serve: Serve) -> None:
    server = serve(scripted_runtime(CALLS))
    choice = server.chat(tools=TOOLS, tool_choice="none").json()["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"]) == (CALLS, "stop")


def test_the_responses_of_calls_thoughts_and_text_are_items(serve: Serve) -> None:
    """In the order in which they came, streamed as whole."""
    server = serve(scripted_runtime("<think>Hm.</think>" + CALLS))
    tools = [{"type": "function", **tool["function"]} for tool in TOOLS]
    body = {"model": "scripted", "input": "Hi", "tools": tools}
    whole = httpx.post(f"{server.url}/v1/responses", json=body).json()
    assert [item["type"] for item in whole["output"]] == ["reasoning", "message", "function_call", "function_call"]
    seen = events(httpx.post(f"{server.url}/v1/responses", json={**body, "stream": True}))
    assert [event["sequence_number"] for event in seen] == list(range(len(seen)))
    final = seen[-1]["response"]["output"]
    added = [event["item"]["id"] for event in seen if event["type"] == "response.output_item.added"]
    assert added == [item["id"] for item in final]
    for one, other in zip(whole["output"], final, strict=True):
        assert one.get("content") == other.get("content")
        assert one.get("arguments") == other.get("arguments")


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"n": 2}, "n must be 1"),
    ({"messages": []}, "messages"),
    ({"messages": [{"role": "user"}]}, "needs content"),
    ({"messages": [{"role": "narrator", "content": "x"}]}, "role"),
    ({"messages": "Hi"}, "messages"),
    ({"temperature": -1}, "temperature must be"),
    ({"temperature": "warm"}, "temperature"),
    ({"top_p": 0}, "top-p must be"),
    ({"seed": -1}, "seed must be"),
    ({"stop": [""]}, "stop string"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"logit_bias": {"Paris": 5}}, "logit_bias"),
    ({"logit_bias": {"99999": 5}}, "vocabulary"),
    ({"logprobs": True, "top_logprobs": 99}, "top_logprobs"),
    ({"tools": [{"type": "web_search"}]}, "tools"),
    ({"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "rm"}}}, "tool choice"),
    ({"tool_choice": "required"}, "tool choice"),
    ({"response_format": {"type": "json_schema"}}, "needs a schema"),
    ({"response_format": {"type": "json_schema", "json_schema": {"schema": {"pattern": "a"}}}}, "cannot be enforced"),
    ({"functions": [{"name": "f"}]}, "older form of tools"),
    ({"chat_template_kwargs": {"messages": []}}, "leave it out"),
    ({"messages": [{"role": "user", "content": "x" * 5000}]}, "context holds"),
    (
        {
            "messages": [
                {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}]}
            ]
        },
        "opens no file and no URL",
    ),
    ({"messages": [{"role": "user", "content": [{"type": "file", "file": {"file_id": "x"}}]}]}, "opens no file"),
]


@pytest.mark.parametrize(("more", "says"), REFUSED)
def test_what_cannot_be_answered_is_refused_in_one_line(steady: Served, more: dict[str, Any], says: str) -> None:
    """400, in OpenAI's shape, streamed or not; nothing began."""
    before = steady.metric("prompt_tokens_total")
    for stream in (False, True):
        response = steady.chat(**more, stream=stream)
        error = response.json()["error"]
        assert (response.status_code, error["type"]) == (400, "invalid_request_error")
        assert says in error["message"]
        assert "\n" not in error["message"]
    assert steady.metric("prompt_tokens_total") == before


def test_half_a_character_is_refused(serve: Serve) -> None:
    """A lone surrogate is legal in JSON, and no text; wherever it stands."""
    server = serve(scripted_runtime())
    headers = {"content-type": "application/json"}
    tool = r'"tools":[{"type":"function","function":{"name":"f","parameters":{"title":"\ud800"}}}]'
    for body in (
        r'{"model":"scripted","messages":[{"role":"user","content":"\ud800"}]}',
        rf'{{"model":"scripted","messages":[{{"role":"user","content":"x"}}],{tool}}}',
        r'{"model":"\ud800","messages":[{"role":"user","content":"x"}]}',
    ):
        response = httpx.post(f"{server.url}/v1/chat/completions", content=body, headers=headers)
        assert response.status_code == 400, response.text


@pytest.mark.parametrize(
    ("body", "kind", "says"),
    [
        ('{"model": "scripted"}', "application/x-www-form-urlencoded", "needs Content-Type: application/json"),
        ("{'model': 'scripted'}", "application/json", "not JSON: Expecting property name enclosed in double quotes"),
        ('{"model": "scripted", "messages": [], "tool_choice": "any"}', "application/json", "; tool_choice: Input"),
    ],
)
def test_what_is_wrong_with_a_body_is_told_by_its_fields(steady: Served, body: str, kind: str, says: str) -> None:
    """As one reads who forgot curl's header, wrote Python for JSON, or another server's word."""
    response = httpx.post(f"{steady.url}/v1/chat/completions", content=body, headers={"content-type": kind})
    assert (response.status_code, says in response.json()["error"]["message"]) == (400, True), response.text


def test_a_second_turn_tells_what_was_cached(serve: Serve) -> None:
    """In OpenAI's usage and in llama-server's timings, whose prompt_n is what was read now."""
    server = serve(scripted_runtime("yes"))
    first, second = (server.chat().json() for _ in range(2))
    prompt = second["usage"]["prompt_tokens"]
    assert first["timings"]["cache_n"] == 0
    assert second["usage"]["prompt_tokens_details"]["cached_tokens"] == second["timings"]["cache_n"] == prompt - 1
    assert second["timings"]["prompt_n"] == 1


def test_an_unknown_model_is_openais_404(serve: Serve) -> None:
    server = serve(scripted_runtime(), name="house")
    with pytest.raises(openai.NotFoundError) as missing:
        server.openai().chat.completions.create(model="scripted", messages=ASK)
    assert missing.value.code == "model_not_found"
    assert server.openai().chat.completions.create(model="house", messages=ASK).model == "house"


def test_paths_and_methods_that_are_not_there(serve: Serve) -> None:
    """A base URL with a part too few, or too many, is told of by the path that was meant."""
    server = serve(scripted_runtime())
    assert httpx.get(f"{server.url}/v1/nothing").json()["error"]["type"] == "invalid_request_error"
    with pytest.raises(openai.NotFoundError, match="/v1/embeddings is not served here; /openapi"):
        server.openai().embeddings.create(model="scripted", input="Hi")
    for path, meant in (("/chat/completions", "/v1/chat/completions"), ("/v1/v1/messages", "/v1/messages")):
        response = httpx.post(server.url + path, json={"model": "scripted", "messages": ASK})
        assert (response.status_code, f"; {meant} is: look at" in response.text) == (404, True)
    assert httpx.get(f"{server.url}/v1/chat/completions").status_code == 405
    assert httpx.get(f"{server.url}/v1/messages/batches").json()["type"] == "error"


def test_health_and_metrics(serve: Serve) -> None:
    """What was counted is what happened."""
    server = serve(scripted_runtime("four"))
    assert httpx.get(f"{server.url}/health").json() == {"status": "ok"}
    stats = server.chat().json()["timings"]
    assert server.metric("predicted_tokens_total") == 5
    assert server.metric("draft_tokens_accepted_total") == stats["draft_n_accepted"]
    assert server.metric("first_token_seconds_count") == 1
    server.runtime.close()
    assert httpx.get(f"{server.url}/health").status_code == 503
    assert server.chat().json()["error"]["code"] == "closed"
    assert server.metric(r'requests_total\{path="/v1/chat/completions",status="200"\}') == 1
