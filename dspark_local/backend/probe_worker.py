"""The child of a probe: loads what it is told to, runs it once, and says how that went, if it lives to say it.

One JSON object per line on stdin (Job), one per line on stdout (Answer). It speaks to llama.cpp directly, in the
fewest calls, because it is here to die in place of the program that uses backend/llama.py.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import sys
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import llama_cpp
import numpy as np
from llama_cpp import llama_cpp_ext

from dspark_local.formats.dflash import read_draft_spec
from dspark_local.formats.gguf import GGUF

if TYPE_CHECKING:
    from collections.abc import Callable

    from dspark_local.formats.dflash import DraftSpec

_N_CTX, _N_BATCH = 256, 64  # 64 rows: where AMX tiles start to be used
_LOG_ERROR = 3  # GGML_LOG_LEVEL_ERROR
_LAYER_INPUTS = {  # C++ names, which llama-cpp-python's own extension module does not declare
    "set": ("_Z30llama_set_embeddings_layer_inpP13llama_contextjb", "?llama_set_embeddings_layer_inp@@YAXPEAUllama_context@@I_N@Z"),
    "get": ("_Z30llama_get_embeddings_layer_inpP13llama_contextj", "?llama_get_embeddings_layer_inp@@YAPEAMPEAUllama_context@@I@Z"),
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What to try: a target, a drafter for it or none, and how."""

    target: str
    draft: str | None = None
    n_gpu_layers: int = 0
    use_extra_bufts: bool = True
    n_threads: int = 1


@dataclass(frozen=True, slots=True)
class Answer:
    """`ok`, or what llama.cpp said when it refused, in one line."""

    ok: bool
    detail: str = ""


class _RefusedError(Exception):
    """llama.cpp said no, and is still alive."""


class _Log:
    """Keeps the last error that llama.cpp logged, and nothing else."""

    def __init__(self) -> None:
        self.last = ""
        self.callback = llama_cpp.llama_log_callback(self._keep)  # held here, or ctypes would free it
        llama_cpp.llama_log_set(self.callback, ctypes.c_void_p(0))

    def _keep(self, level: int, text: bytes, _user: object) -> None:
        if level == _LOG_ERROR:
            line = text.decode(errors="replace").strip()
            self.last = line.rsplit(": error loading model: ", 1)[-1] or self.last

    def wanted[T](self, value: T | None, what: str) -> T:
        if not value:
            raise _RefusedError(f"{what}: {self.last}" if self.last else what)
        return value
