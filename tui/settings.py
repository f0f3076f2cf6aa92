"""What a chat starts with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dspark_local.runtime import Runtime

if TYPE_CHECKING:
    from dspark_local.types import SamplingParams


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What to load: a model by its name, path or hub id; the policy, None for that of the command line."""

    model: str
    policy: str | None = None


Opener = Callable[[Choice, Callable[[str, float], None]], Runtime]
"""Loads a pair; tells the callable that it is given (stage, share from 0 to 1); raises DSparkError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The model that the program starts with, and what drafts for others.

    How every answer of a chat is drawn, None for the runtime's preset; the system message that it begins with.
    """

    model: str = "demo"
    drafter: str = "auto"
    sampling: SamplingParams | None = None
    max_tokens: int | None = None
    system: str | None = None
