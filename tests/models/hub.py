"""A stand-in for the hub's HTTP interface, as far as its own client asks for it."""

from __future__ import annotations

import hashlib
import json
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from time import sleep  # the real one, whatever a test does to its client's
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator

COMMIT = "c0ffee" * 6 + "beef"
PIECE = 1 << 16


@dataclass
class Hub:
    """Repositories, how they misbehave, and what was asked of them."""

    repos: dict[str, dict[str, bytes]] = field(default_factory=dict)
    url: str = ""
    cuts: list[int] = field(default_factory=list)  # bytes after which the next answers break off
    pause: float = 0.0  # seconds before each piece of 64 KiB
    status: int = 200  # of everything
    headers: dict[str, str] = field(default_factory=dict)  # of a refusal
    damaged: bool = False  # bytes are not what their SHA-256 says
    token: str | None = None  # needed, if there is one
    sent: int = 0  # bytes of files
    ranges: list[str | None] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class Handler(BaseHTTPRequestHandler):
    hub: Hub

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET(body=False)

    def do_GET(self, *, body: bool = True) -> None:
        hub, path = self.hub, unquote(urlsplit(self.path).path)
        hub.asked.append(f"{self.command} {path}")
        if hub.status != 200:
            self._answer(hub.status, hub.headers)
        elif hub.token and self.headers.get("Authorization") != f"Bearer {hub.token}":
            self._answer(401, {"X-Error-Code": "GatedRepo", "X-Error-Message": "restricted"})
        elif path.startswith("/api/models/"):
            self._tree("/".join(path.split("/")[3:5]))
        else:
            repo, _, name = path[1:].partition("/resolve/")
            self._file(repo, name.partition("/")[2], body=body)

    def _answer(self, status: int, headers: dict[str, str], data: bytes = b"") -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _tree(self, repo: str) -> None:
        if repo not in self.hub.repos:
            self._answer(404, {"X-Error-Code": "RepoNotFound"})
            return
        tree = [
            {"type": "file", "path": path, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
            | ({"lfs": {"oid": sha256(data), "size": len(data), "pointerSize": 1}} if large(path) else {})
            for path, data in self.hub.repos[repo].items()
        ]
        self._answer(200, {"Content-Type": "application/json"}, json.dumps(tree).encode())

    def _file(self, repo: str, name: str, *, body: bool) -> None:
        hub = self.hub
        data = hub.repos.get(repo, {}).get(name)
        if data is None:
            self._answer(404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
            return
        asked = self.headers.get("Range")
        start = int(asked.split("=")[1].split("-")[0]) if asked and body else 0
        etag = sha256(data) if large(name) else hashlib.sha1(data).hexdigest()
        self.send_response(206 if start else 200)
        for key, value in {
            "ETag": f'"{etag}"',
            "X-Linked-Etag": f'"{etag}"',
            "X-Linked-Size": str(len(data)),
            "X-Repo-Commit": COMMIT,
            "Content-Length": str(len(data) - start),
            **({"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"} if start else {}),
        }.items():
            self.send_header(key, value)
        self.end_headers()
        if body:
            with hub.lock:
                hub.ranges.append(asked)
                cut = hub.cuts.pop(0) if hub.cuts else None
            self._send(bytes(len(data)) if hub.damaged else data, start, cut)

    def _send(self, data: bytes, start: int, cut: int | None) -> None:
        end = len(data) if cut is None else min(len(data), start + cut)
        with suppress(OSError):  # the client may be dead by now
            for at in range(start, end, PIECE):
                sleep(self.hub.pause)
                piece = data[at : min(at + PIECE, end)]
                self.wfile.write(piece)
                with self.hub.lock:
                    self.hub.sent += len(piece)
        if cut is not None:
            self.close_connection = True


def large(path: str) -> bool:
    return path.endswith((".gguf", ".safetensors"))


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("HubHandler", (Handler,), {"hub": hub}))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    hub.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
