"""Who may come in, and from where."""

from __future__ import annotations

import builtins
import importlib.util
from typing import TYPE_CHECKING, Any

import anthropic
import httpx
import openai
import pytest

from dspark_local.cli.main import main
from dspark_local.server.guard import is_loopback
from dspark_local.testing import scripted_runtime

from .conftest import ASK

if TYPE_CHECKING:
    from .conftest import Serve, Served

PATHS = ["/v1/models", "/v1/chat/completions", "/v1/messages", "/metrics", "/openapi.json", "/nothing"]


def test_a_key_is_asked_of_everyone(serve: Serve) -> None:
    """By either header, on every path but /health; a wrong one is told in the protocol's shape."""
    server = serve(scripted_runtime("yes"), key="sésame")
    for path in PATHS:
        for headers in ({}, {"authorization": "Bearer no"}, {"authorization": "sésame".encode()}, {"x-api-key": ""}):
            assert httpx.get(server.url + path, headers=headers).status_code == 401, path
    assert httpx.get(f"{server.url}/health").status_code == 200
    with pytest.raises(openai.AuthenticationError, match="API key"):
        server.openai("no").models.list()
    with pytest.raises(anthropic.AuthenticationError, match="authentication_error"):
        server.anthropic("no").messages.create(model="scripted", max_tokens=5, messages=ASK)


def test_the_right_key_lets_in(serve: Serve) -> None:
    server = serve(scripted_runtime("yes"), key="sesame")
    got = server.openai("sesame").chat.completions.create(model="scripted", messages=ASK)
    assert got.choices[0].message.content == "yes"
    assert server.anthropic("sesame").messages.create(model="scripted", max_tokens=9, messages=ASK).content


def test_a_loopback_server_answers_to_no_other_name(serve: Serve) -> None:
    """A page whose name was made to lead here gets nothing, and no page may read answers unless its origin may."""
    server = serve(scripted_runtime("yes"), origins=["http://friend.example"])
    for host in ("evil.example", "evil.example:80", "[", ""):
        assert httpx.get(f"{server.url}/v1/models", headers={"host": host}).status_code in (400, 403), host
    for host in ("localhost", f"localhost:{server.port}", "[::1]:80"):
        assert httpx.get(f"{server.url}/v1/models", headers={"host": host}).status_code == 200, host
    for origin, allowed in (("http://friend.example", True), ("http://evil.example", False)):
        headers = {"origin": origin, "access-control-request-method": "POST"}
        asked = httpx.options(f"{server.url}/v1/chat/completions", headers=headers)
        assert (asked.headers.get("access-control-allow-origin") == origin) == allowed


def test_a_form_is_no_request(steady: Served) -> None:
    """What a page may send without asking, text/plain, is not read as JSON."""
    body = '{"model":"scripted","messages":[{"role":"user","content":"x"}]}'
    for kind in ("text/plain", "application/x-www-form-urlencoded"):
        response = httpx.post(f"{steady.url}/v1/chat/completions", content=body, headers={"content-type": kind})
        assert response.status_code == 400


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False),
     ("192.168.1.2", False), ("example.org", False)],
)  # fmt: skip
def test_what_loopback_is(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


def test_other_addresses_need_a_key(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DSPARK_API_KEY", raising=False)
    assert main(["serve", "demo", "--host", "0.0.0.0"]) == 2
    said = capsys.readouterr().err
    assert "set DSPARK_API_KEY" in said
    assert said.count("\n") == 1


def test_a_port_that_is_taken_is_one_line(steady: Served, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "demo", "--port", str(steady.port)]) == 2
    assert "choose another --host or --port" in capsys.readouterr().err


def test_a_missing_extra_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """It says what to install; importing the command needs none of it."""
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "uvicorn" else found(name))
    assert main(["serve"]) == 2
    assert "pip install 'dspark-local[server]'" in capsys.readouterr().err


def test_no_other_command_needs_the_extra(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """`--help` of serve works without it too."""
    real = builtins.__import__

    def importing(name: str, *rest: Any) -> Any:
        assert name.partition(".")[0] not in ("fastapi", "starlette", "uvicorn", "prometheus_client"), name
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", importing)
    for arguments in (["--help"], ["serve", "--help"], ["run", "--help"]):
        assert main(arguments) == 0
    assert "--api-key" in capsys.readouterr().out
