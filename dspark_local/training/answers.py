"""The target's own answers: asked through the engine, many at once, and kept line by line, so that a kill costs little.

With a fixed width the answers depend on seed and target alone, whoever else is being answered: what was begun, killed
and resumed is what would have come of it at once.
"""

from __future__ import annotations

import json
import os
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dspark_local.errors import ContextError, TrainingError, UsageError
from dspark_local.training.text import Text
from dspark_local.types import FinishReason, SamplingParams

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from dspark_local.generation import Generation
    from dspark_local.runtime import Runtime
    from dspark_local.training.prompts import Conversation

_SEEDS = 1_000_003
_LEAST = 4  # prompts: some to learn from, one to judge by
_HELD_OUT, _MOST_HELD_OUT = 20, 64  # one prompt in so many, and no more


@dataclass(frozen=True, slots=True)
class Asking:
    """How the prompts are asked: `sampled` is the share answered at temperature 1, the others are greedy."""

    seed: int = 1
    max_tokens: int = 512
    sampled: float = 1 / 3

    def temperature(self, index: int) -> float:
        """Of the answer to a prompt; those by which the drafter is judged are greedy, unless all are sampled."""
        whole = int((index + 1) * self.sampled + 1e-9) - int(index * self.sampled + 1e-9)
        return float(self.sampled >= 1 or (whole > 0 and not is_held_out(index)))


def is_held_out(index: int) -> bool:
    """Whether a prompt is for judging: the fourth, and from there every twentieth, up to sixty-four."""
    return index % _HELD_OUT == _LEAST - 1 and index < _HELD_OUT * _MOST_HELD_OUT


@dataclass(frozen=True, slots=True)
class Answers:
    """A file of answers in the order of the prompts: a line that says what they are, and a line each."""

    path: Path
    identity: dict[str, Any]

    def read(self) -> list[Text]:
        """What is there; a last line that was cut short by a kill is dropped from the file too.

        Raises UsageError for answers of something else.
        """
        if not self.path.is_file():
            return []
        lines = self.path.read_bytes().split(b"\n")
        whole, cut = lines[:-1], lines[-1]
        try:
            known = not whole or json.loads(whole[0]) == self.identity
            texts = [Text.of(line.decode()) for line in whole[1:]]
        except (ValueError, TypeError, OverflowError):
            raise UsageError(f"{self.path} is damaged; remove it, or give another --out") from None
        if not known:
            raise UsageError(
                f"{self.path} holds the answers of another target, other prompts or options; give another --out"
            )
        if cut:
            with self.path.open("r+b") as file:
                file.truncate(self.path.stat().st_size - len(cut))
        return texts

    def append(self, texts: Sequence[Text]) -> None:
        """Write more. Raises TrainingError when the disk refuses."""
        try:
            new = not self.path.is_file() or not self.path.stat().st_size
            with self.path.open("a", encoding="utf-8") as file:
                if new:
                    file.write(json.dumps(self.identity) + "\n")
                file.writelines(text.line() + "\n" for text in texts)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise TrainingError(f"{self.path} cannot be written: {error.strerror or error}") from error


def check(conversations: Sequence[Conversation]) -> None:
    """Raise UsageError for fewer prompts than can be learned from and judged by."""
    if len(conversations) < _LEAST:
        raise UsageError(f"training wants at least {_LEAST} different prompts; there are {len(conversations)}")


def regenerate(
    runtime: Runtime,
    conversations: Sequence[Conversation],
    kept: Answers,
    asking: Asking,
    *,
    progress: Callable[[str, float], None],
) -> list[Text]:
    """Answers to all conversations, those that are kept included; one that does not fit the context stays empty.

    `runtime` decodes plainly, at a fixed width. Raises UsageError, TrainingError, and what the runtime raises.
    """
    check(conversations)
    texts = kept.read()
    running: deque[tuple[int, Generation | None]] = deque()
    todo = iter(range(len(texts), len(conversations)))
    stage = "asking the target"
    progress(stage, len(texts) / len(conversations))
    try:
        while True:
            while len(running) < 2 * runtime.info.n_slots and (index := next(todo, None)) is not None:
                running.append((index, _ask(runtime, conversations[index], index, asking)))
            if not running:
                return texts
            index, generation = running.popleft()
            text = _text(generation, asking.temperature(index))
            kept.append([text])
            texts.append(text)
            progress(stage, len(texts) / len(conversations))
    finally:
        for _, generation in running:
            if generation:
                generation.cancel()


def _ask(runtime: Runtime, conversation: Conversation, index: int, asking: Asking) -> Generation | None:
    sampling = SamplingParams(temperature=asking.temperature(index), seed=asking.seed * _SEEDS + index)
    try:
        if runtime.vocab.chat_template is None:
            return runtime.generate(conversation[-1].content, sampling, max_tokens=asking.max_tokens)
        return runtime.chat(conversation, sampling, max_tokens=asking.max_tokens)
    except ContextError:
        return None


def _text(generation: Generation | None, temperature: float) -> Text:
    if generation is None:
        return Text.said((), (), ended=False, temperature=temperature)
    finish = generation.result()
    ended = finish.reason is FinishReason.STOP
    return Text.said(generation.prompt, finish.tokens, ended=ended, temperature=temperature)
