"""llama-speculative-simple as a peer: one process for each answer, which it times itself, loading left out."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from peer_server import environment, sampling

from dspark_local import BackendError

if TYPE_CHECKING:
    from pathlib import Path

    from peer_question import Question
    from peer_server import Load, Setting

ATTEMPTS = 10  # once in twenty answers its logger loses the end at exit


@dataclass(frozen=True, slots=True)
class Told:
    """An answer as text: `tokens` of them in `seconds`, prefill left out."""

    text: str
    tokens: int
    seconds: float

    @property
    def rate(self) -> float:
        """Tokens per second."""
        return self.tokens / self.seconds


def tell(program: Path, load: Load, setting: Setting, question: Question, max_tokens: int) -> Told:
    """One answer. Raises BackendError."""
    drawn = sampling(question)
    words = ["--temp", str(drawn["temperature"]), "--top-k", str(drawn["top_k"]), "--seed", str(drawn["seed"])]
    words += ["--samplers", ";".join(drawn["samplers"]), "--no-escape", "--log-colors", "off"]
    # it stops once it has more than it was asked for, by a part of a block
    words += ["--predict", str(max_tokens - 1), "--prompt", question.rendered]
    command = [program, *load.options, *setting.options(load.pair), *words]
    for _ in range(ATTEMPTS):
        done = subprocess.run(  # noqa: S603 - what we built
            command, env=environment(), capture_output=True, text=True, errors="replace", check=False
        )
        if done.returncode:
            break
        if told := parse(done.stdout, done.stderr, question):
            return told
    last = next((line.strip() for line in reversed(done.stderr.splitlines()) if line.strip()), "it said nothing")
    raise BackendError(f"llama-speculative-simple does not run: {last}")


def parse(stdout: str, stderr: str, question: Question) -> Told | None:
    """Prompt and answer are its output; what it counted and timed, its log. None if the end of that is missing.

    Raises BackendError when it read other tokens than everybody else.
    """
    encoded = re.search(r"encoded\s+(\d+) tokens", stderr)
    decoded = re.search(r"decoded\s+(\d+) tokens in\s+([\d.]+) seconds", stderr)
    if not encoded or not decoded or question.rendered not in stdout:
        return None
    if int(encoded[1]) != len(question.tokens):
        raise BackendError(f"llama-speculative-simple reads {encoded[1]} tokens in a prompt of {len(question.tokens)}")
    return Told(stdout.partition(question.rendered)[2].strip(), int(decoded[1]), float(decoded[2]))
