"""A server under load: streams at once for minutes, each text against its solo run; latencies, and what it keeps.

The server is a process of its own, asked over HTTP by the official client. In the fixed-width mode (the default) the
text depends on seed and target alone, so every answer must be the one that the same request got alone. `--fast`
measures the mode that people use, where near-ties may fork; it counts answers that differ and calls none of them wrong.
`--leave N` closes the connection of every Nth request amid its stream.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import openai
import psutil

from dspark_local.bench.tables import table

if TYPE_CHECKING:
    from collections.abc import Iterator

NAMES = (
    *("random.choice", "os.walk", "json.dumps", "bisect.insort", "glob.glob", "ast.parse", "csv.reader", "copy.copy"),
    *("html.escape", "shutil.move", "zlib.crc32", "heapq.merge", "math.gcd", "time.sleep", "uuid.uuid4", "re.sub"),
)
PATIENCE = 600.0
PROGRESS = 10.0  # seconds between two lines


@dataclass(frozen=True, slots=True)
class Question:
    """A request; its seed and length are its own, so that streams join and leave at different rounds."""

    number: int

    @property
    def text(self) -> str:
        """What is asked."""
        return f"What does {NAMES[self.number % len(NAMES)]} do?"

    @property
    def max_tokens(self) -> int:
        """Where the answer is cut at the latest."""
        return 48 + 16 * (self.number % 4)


@dataclass(slots=True)
class Load:
    """What so many streams at once saw."""

    streams: int
    answers: int = 0
    left: int = 0
    tokens: int = 0
    wrong: list[int] = field(default_factory=list)  # numbers of the questions
    failed: list[str] = field(default_factory=list)
    first: list[float] = field(default_factory=list)
    between: list[float] = field(default_factory=list)
    rss: list[int] = field(default_factory=list)  # bytes, every PROGRESS seconds
    seconds: float = 0.0


def main() -> None:
    """Start a server, ask every question alone, then many at once for a while; print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model", nargs="?", default="demo")
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 4, 16, 64])
    parser.add_argument("--seconds", type=float, default=600.0, help="of each number of streams (default: %(default)s)")
    parser.add_argument("--slots", type=int, default=4, help="default: %(default)s")
    parser.add_argument("--questions", type=int, default=32, help="default: %(default)s")
    parser.add_argument("--leave", type=int, default=0, metavar="N", help="leave every Nth request (default: none)")
    parser.add_argument("--fast", action="store_true", help="not in the fixed-width mode")
    parser.add_argument("--policy", default="fixed:3", help="default: %(default)s")
    options = parser.parse_args()
    questions = [Question(number) for number in range(options.questions)]
    arguments = ["--slots", str(options.slots), "--policy", options.policy, "--max-queue", str(max(options.streams))]
    loads = []
    with server([options.model, *arguments, *([] if options.fast else ["--fixed-width"])]) as (process, url):
        alone = asyncio.run(_alone(url, options.model, questions))
        for streams in options.streams:
            load = Load(streams)
            loads.append(load)
            asyncio.run(_together(process, url, options, questions, alone, load))
            print(report([load]), flush=True)
    print(report(loads))
    if not options.fast and any(load.wrong or load.failed for load in loads):
        sys.exit("an answer was wrong, or failed")


@contextlib.contextmanager
def server(arguments: list[str]) -> Iterator[tuple[psutil.Process, str]]:
    """`dspark-local serve` as a process, and its address."""
    command = [Path(sys.executable).with_name("dspark-local"), "serve", *arguments, "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=tempfile.gettempdir()) as process:  # noqa: S603 - ours
        assert process.stderr
        try:
            for line in process.stderr:
                if found := re.search(r"answers at (\S+)", line):
                    yield psutil.Process(process.pid), found[1]
                    return
            sys.exit("the server did not start")
        finally:
            process.terminate()


async def _alone(url: str, model: str, questions: list[Question]) -> list[str]:
    load = Load(1)
    async with _client(url) as client:
        return [await _ask(client, model, question, load) for question in questions]


async def _together(
    process: psutil.Process,
    url: str,
    options: argparse.Namespace,
    questions: list[Question],
    alone: list[str],
    load: Load,
) -> None:
    began, seconds = time.monotonic(), options.seconds
    turns = iter(range(1 << 30))

    async def stream(client: openai.AsyncOpenAI) -> None:
        while time.monotonic() - began < seconds:
            turn = next(turns)
            question = questions[turn % len(questions)]
            leaves = options.leave and turn % options.leave == options.leave - 1
            try:
                text = await _ask(client, options.model, question, load, pieces=1 + turn % 8 if leaves else None)
            except openai.APIError as error:
                load.failed.append(str(error))
                continue
            if leaves:
                load.left += 1
                continue
            load.answers += 1
            if text != alone[question.number]:
                load.wrong.append(question.number)

    async def tell() -> None:
        while True:
            load.rss.append(process.memory_info().rss)
            await asyncio.sleep(PROGRESS)
            done = f"{load.answers} answers, {len(load.wrong)} differ, {len(load.failed)} failed"
            print(f"{load.streams} streams, {time.monotonic() - began:.0f} of {seconds:.0f} s: {done}", file=sys.stderr)

    telling = asyncio.create_task(tell())
    async with _client(url) as client:
        await asyncio.gather(*(stream(client) for _ in range(load.streams)))
    telling.cancel()
    load.rss.append(process.memory_info().rss)
    load.seconds = time.monotonic() - began


def _client(url: str) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=PATIENCE)


async def _ask(
    client: openai.AsyncOpenAI, model: str, question: Question, load: Load, *, pieces: int | None = None
) -> str:
    """The answer, or so many pieces of it."""
    clock, text = time.perf_counter(), ""
    first = True
    stream = await client.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": question.text}],
        temperature=0.8,
        seed=question.number,
        max_tokens=question.max_tokens,
        stream=True,
        stream_options={"include_usage": True},
    )
    async for chunk in stream:
        if chunk.usage:
            load.tokens += chunk.usage.completion_tokens
        if not (chunk.choices and (said := chunk.choices[0].delta.content)):
            continue
        text += said
        now = time.perf_counter()
        (load.first if first else load.between).append(now - clock)
        clock, first = now, False
        if pieces is not None and (pieces := pieces - 1) == 0:
            await stream.close()
            break
    return text


def report(loads: list[Load]) -> str:
    """Milliseconds at the 50th and the 99th percentile, and what the server holds at each quarter of the time.

    `first` has the wait for a slot in it; `between` is from one piece of a stream to the next.
    """
    rows = [
        [
            str(load.streams),
            str(load.answers),
            str(load.left),
            str(len(load.wrong)),
            str(len(load.failed)),
            f"{load.tokens / load.seconds:.0f}",
            _percentiles(load.first),
            _percentiles(load.between),
            " → ".join(f"{size / 2**20:.0f}" for size in _quarters(load.rss)),
        ]
        for load in loads
    ]
    head = [
        "streams",
        "answers",
        "left",
        "differ",
        "failed",
        "tok/s",
        "first, p50 / p99 ms",
        "between, p50 / p99 ms",
        "RSS, MiB",
    ]
    return table(head, rows)


def _quarters(curve: list[int]) -> list[int]:
    return [curve[(len(curve) - 1) * quarter // 4] for quarter in range(5)]


def _percentiles(seconds: list[float]) -> str:
    found = sorted(seconds)
    return " / ".join(f"{1000 * found[min(len(found) - 1, int(share * len(found)))]:.0f}" for share in (0.5, 0.99))


if __name__ == "__main__":
    main()
