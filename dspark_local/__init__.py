"""DSpark speculative decoding over llama.cpp, in process.

import dspark_local

with dspark_local.load("demo") as runtime:
    for event in runtime.chat([{"role": "user", "content": "What does random.choice do?"}]):
        if isinstance(event, dspark_local.Text):
            print(event.text, end="", flush=True)
"""

from __future__ import annotations

import logging
from importlib import import_module
from typing import TYPE_CHECKING

from dspark_local.errors import (
    BackendError,
    ClosedError,
    ContextError,
    ConvertError,
    DownloadError,
    DSparkError,
    ForkError,
    ModelError,
    ModelFormatError,
    ModelNotFoundError,
    OutOfMemoryError,
    PairError,
    QueueFullError,
    StorageError,
    TrainingError,
    UsageError,
)
from dspark_local.events import Event, Finish, RoundDone, Text, Thinking, ToolCall
from dspark_local.types import (
    FinishReason,
    Round,
    RoundTimes,
    SamplingParams,
    Stats,
    TokenLogprob,
    TokenLogprobs,
    Why,
)

if TYPE_CHECKING:
    from dspark_local.chat import Message
    from dspark_local.generation import Generation
    from dspark_local.loading import load
    from dspark_local.runtime import Info, Runtime
    from dspark_local.tools.toolset import Tool

__all__ = [
    "BackendError",
    "ClosedError",
    "ContextError",
    "ConvertError",
    "DSparkError",
    "DownloadError",
    "Event",
    "Finish",
    "FinishReason",
    "ForkError",
    "Generation",
    "Info",
    "Message",
    "ModelError",
    "ModelFormatError",
    "ModelNotFoundError",
    "OutOfMemoryError",
    "PairError",
    "QueueFullError",
    "Round",
    "RoundDone",
    "RoundTimes",
    "Runtime",
    "SamplingParams",
    "Stats",
    "StorageError",
    "Text",
    "Thinking",
    "TokenLogprob",
    "TokenLogprobs",
    "Tool",
    "ToolCall",
    "TrainingError",
    "UsageError",
    "Why",
    "load",
]

# Imported when they are first asked for: a second that `--help`, or the child that tries a file out, need not spend.
_LATER = {
    "Generation": "generation",
    "Info": "runtime",
    "Message": "chat",
    "Runtime": "runtime",
    "Tool": "tools.toolset",
    "load": "loading",
}

logging.getLogger(__name__).addHandler(logging.NullHandler())  # silent, unless the app wants to hear


def __getattr__(name: str) -> object:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found: object = getattr(import_module(f"{__name__}.{_LATER[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
