"""A real server on a real socket, in a thread of the tests, and the official clients before it."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import anthropic
import httpx
import openai
import pytest

import dspark_local
from dspark_local.server.app import create_app
from dspark_local.server.limits import Limits
from dspark_local.server.listening import bound, server
from dspark_local.testing import scripted_runtime

if TYPE_CHECKING:
    from dspark_local import Runtime

ASK: list[Any] = [{"role": "user", "content": "What does random.choice do?"}]
PATIENCE = 60


@dataclass(frozen=True)
class Served:
    """A server, and how to reach it."""

    runtime: Runtime
    port: int
    stop: Callable[[], None]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def model(self) -> str:
        return self.runtime.info.model

    def openai(self, key: str = "none") -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=key, max_retries=0, timeout=PATIENCE)

    def anthropic(self, key: str = "none") -> anthropic.Anthropic:
        return anthropic.Anthropic(base_url=self.url, api_key=key, max_retries=0, timeout=PATIENCE)

    def chat(self, **more: Any) -> httpx.Response:
        """A chat request as it is on the wire."""
        body = {"model": self.model, "messages": ASK, **more}
        return httpx.post(f"{self.url}/v1/chat/completions", json=body, timeout=PATIENCE)

    def metric(self, name: str) -> float:
        found = re.search(rf"^dspark_{name} (\S+)$", httpx.get(f"{self.url}/metrics").text, re.MULTILINE)
        assert found, name
        return float(found[1])

    def await_idle(self) -> None:
        """Until nobody is answered any more; far sooner than the answer would have ended."""
        end = time.monotonic() + PATIENCE
        while self.metric("requests_running"):
            assert time.monotonic() < end, "a slot is still taken"
            time.sleep(0.01)


@contextmanager
def served(runtime: Runtime, limits: Limits | None = None, **options: Any) -> Iterator[Served]:
    limits = limits or Limits(grace=5)
    with bound("127.0.0.1", 0) as listener:
        running = server(create_app(runtime, limits=limits, **options), limits)
        thread = threading.Thread(target=running.run, kwargs={"sockets": [listener]})
        thread.start()
        while not running.started:
            time.sleep(0.005)

        def stop() -> None:
            running.should_exit = True

        try:
            yield Served(runtime, listener.getsockname()[1], stop)
        finally:
            stop()
            thread.join()


Serve = Callable[..., Served]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Serve a runtime until the test is over, and close it."""
    with ExitStack() as stack:

        def start(runtime: Runtime, limits: Limits | None = None, **options: Any) -> Served:
            stack.enter_context(runtime)
            return stack.enter_context(served(runtime, limits, **options))

        yield start


@pytest.fixture(scope="package")
def steady() -> Iterator[Served]:
    """A scripted model that many requests in turn are made to."""
    with scripted_runtime("steady", n_ctx=1024) as runtime, served(runtime) as server:
        yield server


@pytest.fixture(scope="package")
def demo() -> Iterator[Served]:
    """The demo pair, where the text depends on seed and target alone."""
    options: dict[str, Any] = {"policy": "fixed:3", "fixed_width": 4, "ctx_size": 2048, "slots": 4, "threads": 1}
    with dspark_local.load("demo", **options) as runtime, served(runtime) as server:
        yield server
