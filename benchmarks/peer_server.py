"""llama-server as a peer: the same pair, prompts as tokens, one process for each way to draft.

It runs as its users run it: with OpenMP's default spinning, whatever dspark_local sets for itself. What could only cost
it is off: the cache of prompts between requests, and samplers that decide nothing.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from measure import Run
from peer_question import SEED
from peer_trials import Crowd

from dspark_local import BackendError, RoundTimes

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from peer_question import Question

    from dspark_local.models.locations import Pair

HOST = "127.0.0.1"
PATIENCE = 600.0  # seconds until a loading server counts as stuck


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """How llama.cpp drafts: γ tokens a round, 0 for plain decoding; blocks end at a confidence below `p_min`."""

    gamma: int = 0
    p_min: float = 0.0

    @property
    def shown(self) -> str:
        """For tables."""
        return f"γ = {self.gamma}" + (f", p-min {self.p_min:g}" if self.p_min else "") if self.gamma else "plain"

    def options(self, pair: Pair) -> list[str | Path]:
        """Command-line words that the server and the simple program share."""
        if not self.gamma:
            return []
        assert pair.drafter is not None
        words = ["--spec-type", "draft-dspark", "--spec-draft-n-max", str(self.gamma)]
        return ["--model-draft", pair.drafter, *words, "--spec-draft-p-min", str(self.p_min)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What every contestant is loaded with: the pair, positions for one slot, slots, threads."""

    pair: Pair
    ctx_size: int
    threads: int
    slots: int = 1

    @property
    def options(self) -> list[str | Path]:
        """Command-line words that the server and the simple program share."""
        words = ["--ctx-size", self.ctx_size * self.slots, "--threads", self.threads, "--threads-batch", self.threads]
        return ["--model", self.pair.target, "--fit", "off", "--offline", *map(str, words)]


class Server:
    """A llama-server that answers; a context manager, for it holds a process. Raises BackendError."""

    def __init__(self, program: Path, load: Load, setting: Setting) -> None:
        self.setting, self._slots = setting, load.slots
        self._port = _free_port()
        # one KV stream for all slots, as ours; --cache-ram: it would copy finished prompts aside
        own = ["--parallel", load.slots, "--kv-unified", "--cache-ram", 0, "--host", HOST, "--port", self._port]
        self.command = [program, *load.options, *setting.options(load.pair), *map(str, own)]
        self._log = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115 - as long as the process; see close
        self._process = subprocess.Popen(  # noqa: S603 - what we built
            self.command, stdout=self._log, stderr=subprocess.STDOUT, env=environment()
        )
        try:
            self._wait()
        except BaseException:
            self.close()
            raise

    def answer(self, question: Question, max_tokens: int) -> Run:
        """One answer by llama.cpp's own clock, which leaves out prefill and what HTTP takes."""
        body = {"prompt": question.tokens, "n_predict": max_tokens, "cache_prompt": False, "return_tokens": True}
        return parse(self._ask("POST", "/completion", json.dumps(body | sampling(question))))

    def crowd(self, questions: Sequence[Question], max_tokens: int) -> Crowd:
        """All at once, by our clock."""
        with ThreadPoolExecutor(len(questions)) as pool:
            began = time.perf_counter()
            runs = list(pool.map(lambda question: self.answer(question, max_tokens), questions))
            return Crowd(tuple(run.tokens for run in runs), time.perf_counter() - began)

    def close(self) -> None:
        """End the process; twice is fine."""
        self._process.terminate()
        self._process.wait()
        self._log.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _wait(self) -> None:
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            if self._process.poll() is not None:
                break
            try:
                self._ask("GET", "/health")
            except (OSError, BackendError):
                time.sleep(0.1)
            else:
                return
        self._log.seek(0)
        last = next((line.strip() for line in reversed(self._log.readlines()) if line.strip()), "it said nothing")
        raise BackendError(f"llama-server does not run with {self.setting.shown}: {last}")

    def _ask(self, method: str, path: str, body: str | None = None) -> dict[str, Any]:
        connection = http.client.HTTPConnection(HOST, self._port, timeout=PATIENCE)
        try:
            connection.request(method, path, body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            text = response.read()
        finally:
            connection.close()
        if response.status != http.HTTPStatus.OK:
            raise BackendError(f"llama-server refuses: {text.decode('utf-8', 'replace')[:200]}")
        said: dict[str, Any] = json.loads(text)
        return said


def parse(said: dict[str, Any]) -> Run:
    """A run from a /completion response.

    `predicted_per_second` leaves out the first token, which came with the prefill. Each round after it commits one
    token more than it accepts.
    """
    timings = said["timings"]
    tokens = tuple(said["tokens"])
    rate = timings["predicted_per_second"]
    rounds = len(tokens) - 1 - timings.get("draft_n_accepted", 0)
    return Run(tokens, (len(tokens) - 1) / rate, rounds, RoundTimes())


def sampling(question: Question) -> dict[str, Any]:
    """No samplers but those that the temperature needs."""
    chain = ["temperature"] if question.temperature else ["top_k", "temperature"]
    return {"temperature": question.temperature, "top_k": 1, "samplers": chain, "seed": SEED}


def environment() -> dict[str, str]:
    """Ours without what dspark_local set for itself."""
    return {key: value for key, value in os.environ.items() if key not in {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"}}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port
