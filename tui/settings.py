"""What a chat starts with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dspark_local.runtime import Runtime

if TYPE_CHECKING:
    from dspark_local.types import SamplingParams

Opener = Callable[[Callable[[str, float], None]], Runtime]
"""Loads a pair; tells the callable that it is given (stage, share from 0 to 1); raises DSparkError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How every answer of a chat is drawn, None for the runtime's preset; the system message that it begins with."""

    sampling: SamplingParams | None = None
    max_tokens: int | None = None
    system: str | None = None
