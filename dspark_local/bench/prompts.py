"""What is asked in a measurement: built in by kind, or from the user's file."""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dspark_local.chat import Message
from dspark_local.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

KINDS = {
    "code": "a function to write",
    "math": "a problem to work out step by step",
    "chat": "a question to answer in prose",
    "copy": "a text to repeat with one change",
    "entropy": "text that nobody can foresee, drawn hot",
}


class Prompt(BaseModel):
    """One question, its kind, and the temperature at which it is answered.

    `raw` continues it as it is, without the chat template.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    prompt: str = Field(min_length=1)
    kind: str = "prompt"
    temperature: float = Field(default=0.0, ge=0.0)
    raw: bool = False

    @property
    def messages(self) -> list[Message]:
        """The conversation that it begins."""
        return [Message("user", self.prompt)]


def built_in() -> list[Prompt]:
    """Some of every kind."""
    text = resources.files("dspark_local.bench").joinpath("prompts.jsonl").read_text(encoding="utf-8")
    return [Prompt.model_validate_json(line) for line in text.splitlines()]


def read(path: Path) -> list[Prompt]:
    """Prompts of a file: one a line, as JSON objects (`.jsonl`) or as they are. Raises UsageError."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read prompts from {path}: {getattr(error, 'strerror', None) or error}") from None
    prompts = [_of(path, n, line) for n, line in enumerate(lines, 1) if line.strip()]
    if not prompts:
        raise UsageError(f"{path} holds no prompt; write one a line")
    return prompts


def _of(path: Path, n: int, line: str) -> Prompt:
    if path.suffix != ".jsonl":
        return Prompt(prompt=line.strip())
    try:
        return Prompt.model_validate_json(line)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UsageError(f"{path}, line {n}: {f'{where}: ' if where else ''}{first['msg'].lower()}") from None
