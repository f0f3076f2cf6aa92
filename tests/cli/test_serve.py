"""The server as a process: it says where it listens, and ends when it is told to."""

from __future__ import annotations

import re
import signal
import socket
from typing import TYPE_CHECKING

import httpx
import pytest

from dspark_local.cli.main import main

from .conftest import ANSWER, start

if TYPE_CHECKING:

    from .conftest import Call

PATIENCE = 120


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_it_serves_until_a_signal(number: signal.Signals, code: int) -> None:
    """One line says where; an answer that streams ends before the process does; no traceback."""
    process = start("serve", "--port", "0", answer="word " * 30, seconds=0.01)
    assert process.stderr
    said = process.stderr.readline().decode()
    found = re.fullmatch(r"dspark-local: scripted answers at (http://127\.0\.0\.1:\d+)\n", said)
    assert found, said
    body = {"model": "scripted", "messages": [{"role": "user", "content": "Hi"}], "stream": True}
    with httpx.stream("POST", f"{found[1]}/v1/chat/completions", json=body, timeout=PATIENCE) as response:
        lines = response.iter_lines()
        next(lines)
        process.send_signal(number)
        assert "data: [DONE]" in list(lines)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == code
    assert err.strip() == b""


def test_a_server_that_was_killed_starts_again() -> None:
    """On the same port, while clients of the first still wait for its end."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    body = {"model": "scripted", "messages": [{"role": "user", "content": "Hi"}]}
    url = f"http://127.0.0.1:{port}/v1/chat/completions"
    first = start("serve", "--port", str(port), answer="word " * 500, seconds=0.01)
    assert first.stderr
    first.stderr.readline()
    with httpx.stream("POST", url, json={**body, "stream": True}, timeout=PATIENCE) as response:
        lines = response.iter_lines()
        next(lines)
        first.kill()
        second = start("serve", "--port", str(port))
        with pytest.raises(httpx.TransportError):
            list(lines)
    assert second.stderr
    assert b"answers at" in second.stderr.readline()
    assert httpx.post(url, json=body, timeout=PATIENCE).json()["choices"][0]["message"]["content"] == ANSWER
    second.terminate()
    for process in (first, second):
        process.communicate(timeout=PATIENCE)


def test_its_options_reach_the_loader(loads: list[Call], monkeypatch: pytest.MonkeyPatch) -> None:
    """Slots, drafting, memory and sampling are the loader's and the preset's; the rest is the server's."""
    class Server:
        def run(self, **_: object) -> None:
            pass

    def server(_app: object, _limits: object) -> Server:
        return Server()

    monkeypatch.setattr("dspark_local.server.listening.server", server)
    arguments = ["--slots", "3", "--no-draft", "--temperature", "0.5", "--max-queue", "7", "--keep-bytes", "0"]
    assert main(["serve", "demo", "--port", "0", *arguments]) == 0
    (call,) = loads
    told = (call.options[option] for option in ("slots", "drafter", "max_waiting", "keep_bytes"))
    assert (call.model, *told) == ("demo", 3, "none", 7, 0)
