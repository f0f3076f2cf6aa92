"""A process that answers with a pair, and prints the most that it held meanwhile; run it by its path."""

from __future__ import annotations

import json
import re
import sys
import threading
from pathlib import Path

from dspark_local import load  # all of it, before anything is measured
from dspark_local.backend import library  # noqa: F401 - what it takes is not the model's
from dspark_local.backend.model import Model  # noqa: F401 - as above


def held() -> dict[str, int]:
    """Bytes that this process holds, anonymous and of files."""
    status = Path("/proc/self/status").read_text()
    return {
        kind: int(re.search(rf"^Rss{kind}:\s+(\d+) kB", status, re.MULTILINE)[1]) << 10  # type: ignore[index]  # there
        for kind in ("Anon", "File")
    }


def main(target: str, draft: str, n_ctx: str) -> None:
    """Prefill most of the context, draft some rounds; the peak above what the process held before."""
    before = held()
    most = dict(before)
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.002):
            now = held()
            for kind, value in now.items():
                most[kind] = max(most[kind], value)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    with load(target, drafter=draft, policy="fixed:3", ctx_size=int(n_ctx), threads=2) as runtime:
        tokens = [5 + i % 50 for i in range(runtime.info.n_ctx - 40)]
        runtime.generate(tokens, max_tokens=16).result()
    over.set()
    watcher.join()
    sys.stdout.write(json.dumps({kind: most[kind] - before[kind] for kind in most}))


if __name__ == "__main__":
    main(*sys.argv[1:])
