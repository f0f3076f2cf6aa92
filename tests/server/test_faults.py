"""Clients that vanish, stall, send garbage, half a body, or far too much: the others never notice."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

import anthropic
import httpx
import openai
import pytest

from dspark_local import BackendError
from dspark_local.server.app import create_app
from dspark_local.server.limits import Limits
from dspark_local.testing import scripted_runtime

from .conftest import ASK, PATIENCE

if TYPE_CHECKING:
    from fastapi import FastAPI

    from .conftest import Serve, Served

LONG = "x" * 3500
STREAM = {"model": "scripted", "messages": ASK, "stream": True}
SLOW = 0.01  # seconds of a decode: such an answer would take half a minute


def raw(server: Served, data: bytes) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE)
    connection.sendall(data)
    return connection


def request(body: dict[str, Any], *, path: str = "/v1/chat/completions", length: int | None = None) -> bytes:
    data = json.dumps({"model": "scripted", "messages": ASK, **body}).encode()
    head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    return head.encode() + f"content-length: {length or len(data)}\r\n\r\n".encode() + data


def answers(server: Served) -> bool:
    """Whether another client still gets its answer."""
    return bool(server.chat(max_tokens=3).json()["choices"][0]["message"]["content"] == LONG[:3])


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages"])
def test_a_client_that_vanishes_frees_its_slot(serve: Serve, path: str, stream: bool) -> None:
    """In the middle of an answer, or while it waits for a whole one."""
    server = serve(scripted_runtime(LONG, seconds=SLOW))
    body = {"stream": stream, "prompt": "assistant: ", "input": "Hi", "max_tokens": 3000}
    connection = raw(server, request(body, path=path))
    if stream:
        assert connection.recv(12) == b"HTTP/1.1 200"
    while not server.metric("requests_running"):
        time.sleep(0.01)
    connection.close()
    server.await_idle()
    assert server.metric("predicted_tokens_total") < 2000
    assert answers(server)


def test_the_official_clients_cancel_by_closing(serve: Serve) -> None:
    server = serve(scripted_runtime(LONG, seconds=SLOW))
    with server.openai().chat.completions.create(model="scripted", messages=ASK, stream=True) as stream:
        assert next(iter(stream))
    server.await_idle()
    with server.anthropic().messages.stream(model="scripted", max_tokens=3000, messages=ASK) as events:
        assert next(iter(events.text_stream))
    server.await_idle()
    assert answers(server)


async def test_an_asynchronous_client_cancels_its_task(serve: Serve) -> None:
    """At whatever moment: before the request is out, while it waits, while it streams."""
    server = serve(scripted_runtime(LONG, seconds=SLOW, slots=2))
    client = openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)

    async def read() -> None:
        async for _ in await client.chat.completions.create(model="scripted", messages=ASK, stream=True):  # type: ignore[union-attr] # a stream
            pass

    for wait in (0, 0.001, 0.005, 0.01, 0.02, 0.05, 0.1):
        task = asyncio.create_task(read())
        await asyncio.sleep(wait)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    await client.close()
    await asyncio.to_thread(server.await_idle)
    assert await asyncio.to_thread(answers, server)


@pytest.mark.parametrize("stream", [True, False])
async def test_a_task_of_the_server_may_be_cancelled_at_any_await(stream: bool) -> None:
    """As when a shutdown's grace is over: at whatever turn of the event loop, the slot is free, and nothing hangs."""
    head = {"type": "http", "method": "POST", "path": "/v1/chat/completions", "query_string": b"", "root_path": ""}
    headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
    body = json.dumps({"model": "scripted", "messages": ASK, "stream": stream}).encode()

    async def request(app: FastAPI, ended: list[bool]) -> None:
        pieces = [(body[:9], True), (body[9:], False)]
        coming = iter([{"type": "http.request", "body": piece, "more_body": more} for piece, more in pieces])

        async def receive() -> Any:
            await asyncio.sleep(0)
            return next(coming, None) or await asyncio.Event().wait()

        async def send(message: Any) -> None:
            await asyncio.sleep(0)
            ended.append(message["type"] == "http.response.body" and not message.get("more_body"))

        await app({**head, "headers": list(headers)}, receive, send)

    with scripted_runtime("one two three", slots=2) as runtime:
        app, turns, told = create_app(runtime), 0, [False]
        while not told[-1]:
            told = [False]
            task = asyncio.create_task(request(app, told))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait_for(asyncio.gather(task, return_exceptions=True), PATIENCE)
            turns += 1 + turns // 20
        while runtime.running or runtime.waiting:  # noqa: ASYNC110 - it tells of no end
            await asyncio.sleep(0.01)
        assert (await runtime.chat(ASK).aresult()).text == "one two three"
    assert turns > 10


def test_a_reader_that_stalls_is_let_go(serve: Serve) -> None:
    """One that takes nothing of its stream loses it, and the slot, while others are answered."""
    server = serve(scripted_runtime(LONG, slots=2), Limits(stall=0.3))
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.connect(("127.0.0.1", server.port))
    wordy = {"stream": True, "logprobs": True, "top_logprobs": 20}  # megabytes, more than the sockets' buffers hold
    connection.sendall(request(wordy))
    while not server.metric("requests_running"):
        time.sleep(0.01)
    assert answers(server)
    server.await_idle()
    received = b"".join(iter(lambda: connection.recv(1 << 20), b""))
    assert received.startswith(b"HTTP/1.1 200")
    assert b"[DONE]" not in received
    connection.close()


GARBAGE = [
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
    b"GET / HTTP/9.9\r\n\r\n",
    b"\r\n\r\n\r\n" + b"A" * 100_000,
    b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: -5\r\n\r\n{}",
    b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\nZZ\r\n",
]


@pytest.mark.parametrize("garbage", GARBAGE)
def test_garbage_is_refused(steady: Served, garbage: bytes) -> None:
    """No HTTP, or a broken form of it: the connection ends, nothing else does."""
    with raw(steady, garbage) as connection:
        connection.shutdown(socket.SHUT_WR)
        try:
            first = connection.recv(12)
        except ConnectionResetError:
            first = b""
        assert first[:10] in (b"", b"HTTP/1.1 4")
    assert steady.chat().status_code == 200


@pytest.mark.parametrize(
    "body", [b"", b"{", b"null", b"[]", b"\xff\xfe", b'{"model": NaN}', b"[" * 100_000, b'"' + b"a" * 1000]
)
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages"])
def test_bodies_that_are_no_requests_are_refused(steady: Served, path: str, body: bytes) -> None:
    response = httpx.post(steady.url + path, content=body, headers={"content-type": "application/json"})
    assert response.status_code == 400
    assert response.json()["error"]["message"]
    assert steady.chat().status_code == 200


def test_half_a_body_is_waited_for_no_longer_than_the_limit(serve: Serve) -> None:
    """Whether the client stays silent or leaves; and a slow one that arrives is answered."""
    server = serve(scripted_runtime(LONG), Limits(stall=0.3))
    with raw(server, request({}, length=5000)) as connection:
        assert connection.recv(12) == b"HTTP/1.1 408"
    raw(server, request({}, length=5000)).close()
    data = request({"max_tokens": 3})
    with raw(server, data[:-20]) as connection:
        time.sleep(0.1)
        connection.sendall(data[-20:])
        assert connection.recv(12) == b"HTTP/1.1 200"
    assert answers(server)


def test_a_hundred_megabytes_are_refused_unread(serve: Serve) -> None:
    """By the length that is told, or once the limit is passed where none is."""
    server = serve(scripted_runtime(LONG))
    with raw(server, request({}, length=100 << 20)) as connection:
        assert connection.recv(12) == b"HTTP/1.1 413"
    sent = 0

    def flood() -> Any:
        nonlocal sent
        for _ in range(100):
            sent += 1 << 20
            yield b" " * (1 << 20)

    try:
        headers = {"content-type": "application/json"}
        response = httpx.post(f"{server.url}/v1/chat/completions", content=flood(), headers=headers, timeout=PATIENCE)
        assert response.status_code == 413
    except (httpx.WriteError, httpx.ReadError):  # it closed the door while we still pushed
        pass
    assert sent < 50 << 20
    assert answers(server)


def test_a_full_queue_is_told_at_once(serve: Serve) -> None:
    """503 with Retry-After, Anthropic's 529; once there is room again, an answer."""
    server = serve(scripted_runtime(LONG, seconds=SLOW, max_waiting=1))
    taken = [raw(server, request({"stream": True})) for _ in range(2)]
    while server.metric("requests_waiting") < 1:
        time.sleep(0.01)
    response = server.chat()
    assert (response.status_code, response.headers["retry-after"]) == (503, "1")
    assert response.json()["error"]["code"] == "queue_full"
    with pytest.raises(anthropic.APIStatusError) as busy:
        server.anthropic().messages.create(model="scripted", max_tokens=5, messages=ASK)
    assert (busy.value.status_code, busy.value.body["error"]["type"]) == (529, "overloaded_error")  # type: ignore[index] # JSON
    for connection in taken:
        connection.close()
    server.await_idle()
    assert answers(server)


@pytest.mark.parametrize("stream", [True, False])
def test_an_answer_has_its_time_and_no_more(serve: Serve, stream: bool) -> None:
    """504; a stream that has begun ends with the error as its last event. Waiting for a slot counts."""
    server = serve(scripted_runtime(LONG, seconds=SLOW), Limits(seconds=0.4))
    others = [threading.Thread(target=server.chat) for _ in range(2)]
    for other in others:
        other.start()
    response = server.chat(stream=stream)
    if stream:
        assert '"code":"timeout"' in response.text.rstrip().rpartition("\n")[2]
        assert "[DONE]" not in response.text
    else:
        assert (response.status_code, response.json()["error"]["code"]) == (504, "timeout")
    for other in others:
        other.join()
    server.await_idle()


@pytest.mark.parametrize("stream", [True, False])
def test_a_decode_that_fails_is_told_and_the_next_answer_is_whole(serve: Serve, stream: bool) -> None:
    server = serve(scripted_runtime(LONG, fail_at=5))
    with pytest.raises(openai.APIError, match="scripted decode failed") as failed:
        for _ in server.openai().chat.completions.create(model="scripted", messages=ASK, stream=stream):
            pass
    assert failed.value.code == BackendError.code
    assert answers(server)


def test_a_prompt_beyond_the_servers_limit_is_refused(serve: Serve) -> None:
    server = serve(scripted_runtime(LONG), Limits(prompt=30))
    error = server.chat().json()["error"]
    assert (error["code"], "takes 30" in error["message"]) == ("context_length_exceeded", True)


def test_at_shutdown_answers_end_first(serve: Serve) -> None:
    """Within their time; nobody new comes in meanwhile."""
    server = serve(scripted_runtime("word " * 20, seconds=0.01), Limits(grace=20))
    with httpx.stream("POST", f"{server.url}/v1/chat/completions", json=STREAM) as response:
        lines = response.iter_lines()
        next(lines)
        server.stop()
        assert "data: [DONE]" in list(lines)
    end = time.monotonic() + PATIENCE
    while not _refused(server):
        assert time.monotonic() < end
        time.sleep(0.01)


def _refused(server: Served) -> bool:
    try:
        httpx.get(f"{server.url}/health")
    except httpx.ConnectError:
        return True
    return False


def test_at_shutdown_answers_that_do_not_end_are_cut(serve: Serve) -> None:
    runtime = scripted_runtime(LONG, seconds=SLOW)
    server = serve(runtime, Limits(grace=1))
    with httpx.stream("POST", f"{server.url}/v1/chat/completions", json=STREAM) as response:
        lines = response.iter_lines()
        next(lines)
        began = time.monotonic()
        server.stop()
        with pytest.raises(httpx.RemoteProtocolError):
            list(lines)
    assert time.monotonic() - began < 15
    assert runtime.chat(ASK, max_tokens=3).result().text == LONG[:3]
