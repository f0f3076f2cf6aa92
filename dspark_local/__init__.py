"""DSpark speculative decoding over llama.cpp, in process.

import dspark_local

with dspark_local.load("demo") as runtime:
    for event in runtime.chat([{"role": "user", "content": "What does random.choice do?"}]):
        if isinstance(event, dspark_local.Text):
            print(event.text, end="", flush=True)
"""

import logging

from dspark_local.chat import Message
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
from dspark_local.generation import Generation
from dspark_local.loading import load
from dspark_local.runtime import Info, Runtime
from dspark_local.tools.toolset import Tool
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

logging.getLogger(__name__).addHandler(logging.NullHandler())  # silent, unless the app wants to hear
