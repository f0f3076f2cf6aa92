"""DSpark speculative decoding over llama.cpp, in process.

import dspark_local

with dspark_local.load("demo") as runtime:
    for event in runtime.chat([{"role": "user", "content": "What does random.choice do?"}]):
        if isinstance(event, dspark_local.Text):
            print(event.text, end="", flush=True)
"""

from dspark_local.chat import Message
from dspark_local.errors import (
    BackendError,
    ClosedError,
    ContextError,
    ConvertError,
    DownloadError,
    DSparkError,
    ModelError,
    ModelFormatError,
    ModelNotFoundError,
    OutOfMemoryError,
    PairError,
    UsageError,
)
from dspark_local.events import Event, Finish, RoundDone, Text, Thinking, ToolCall
from dspark_local.loading import load
from dspark_local.runtime import Generation, Info, Runtime
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
    "Generation",
    "Info",
    "Message",
    "ModelError",
    "ModelFormatError",
    "ModelNotFoundError",
    "OutOfMemoryError",
    "PairError",
    "Round",
    "RoundDone",
    "RoundTimes",
    "Runtime",
    "SamplingParams",
    "Stats",
    "Text",
    "Thinking",
    "TokenLogprob",
    "TokenLogprobs",
    "Tool",
    "ToolCall",
    "UsageError",
    "Why",
    "load",
]
