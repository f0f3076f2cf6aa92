"""A web page of another origin, in headless Chromium, that shows an answer as it streams."""

from __future__ import annotations

import http.server
import queue
import shutil
import subprocess
import threading
from typing import TYPE_CHECKING, Any

import pytest

from dspark_local.testing import scripted_runtime

from .conftest import PATIENCE

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import Serve

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
ANSWER = "Wörter, viele Wörter. " * 8
PAGE = """<!doctype html><meta charset="utf-8"><p id="answer"></p><script>
const answer = document.getElementById("answer");
const tell = (path) => fetch(path, {method: "POST", body: answer.textContent});
(async () => {
  const response = await fetch("SERVER/v1/chat/completions", {
    method: "POST",
    headers: {"content-type": "application/json", "authorization": "Bearer sesame"},
    body: JSON.stringify({model: "scripted", stream: true, messages: [{role: "user", content: "Hi"}]}),
  });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let held = "", told = false;
  for (;;) {
    const {done, value} = await reader.read();
    if (done) break;
    const events = (held + value).split("\\n\\n");
    held = events.pop();
    for (const event of events) {
      if (event === "data: [DONE]" || !event.startsWith("data: ")) continue;
      const delta = JSON.parse(event.slice(6)).choices[0].delta.content;
      if (delta) answer.textContent += delta;
    }
    if (answer.textContent && !told) { told = true; tell("/first"); }
  }
  await tell("/all");
})().catch((error) => fetch("/error", {method: "POST", body: String(error)}));
</script>"""


def pages(page: bytes, told: queue.Queue[tuple[str, str]]) -> http.server.ThreadingHTTPServer:
    """Serves the page, and hears what it tells."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(page)

        def do_POST(self) -> None:
            told.put((self.path, self.rfile.read(int(self.headers["content-length"])).decode()))
            self._answer(b"")

        def _answer(self, body: bytes) -> None:
            self.send_response(200)
            self.send_header("content-type", "text/html")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    return http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine (Debian: apt install chromium)")
def test_a_page_shows_the_answer_as_it_streams(serve: Serve, tmp_path: Path) -> None:
    """It has the first words while the server still writes, and in the end all of them."""
    told: queue.Queue[tuple[str, str]] = queue.Queue()
    origin = pages(b"", told)
    server = serve(
        scripted_runtime(ANSWER, seconds=0.03), key="sesame", origins=[f"http://127.0.0.1:{origin.server_port}"]
    )
    origin.RequestHandlerClass = pages(PAGE.replace("SERVER", server.url).encode(), told).RequestHandlerClass
    threading.Thread(target=origin.serve_forever, daemon=True).start()
    flags = [
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        f"--user-data-dir={tmp_path}",
    ]
    assert CHROMIUM
    browser = subprocess.Popen(
        [CHROMIUM, *flags, f"http://127.0.0.1:{origin.server_port}/"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        path, first = told.get(timeout=PATIENCE)
        assert path == "/first", first
        assert ANSWER.startswith(first)
        assert len(first) < len(ANSWER)
        assert told.get(timeout=PATIENCE) == ("/all", ANSWER)
    finally:
        browser.terminate()
        browser.wait(PATIENCE)
        origin.shutdown()
        origin.server_close()
