"""The llama.cpp library, loaded once: the only `import llama_cpp`.

Its log goes to the logger `dspark_local.llama`, silent by default; the latest errors are kept for messages, each
thread's own, for llama.cpp says them on the thread that called it.
"""

from __future__ import annotations

import ctypes
import logging
import os
import sys
import threading
from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from dspark_local.backend.neighbours import SPINS
from dspark_local.errors import BackendError, ForkError

if TYPE_CHECKING:
    from collections.abc import Iterator

os.environ.setdefault("GOMP_SPINCOUNT", str(SPINS))
# libgomp has a team for every thread that decodes, and when all teams together have more threads than the machine has
# cores it spins so little that each barrier sleeps: a token took 1.45 times as long once a second runtime had decoded.
# With this it spins 1000 times even then. Only there: another OpenMP would spin for ever.
if sys.platform == "linux":
    os.environ.setdefault("OMP_WAIT_POLICY", "active")

try:
    import llama_cpp
except (ImportError, OSError, RuntimeError) as error:
    why = str(error).splitlines()[0]
    raise BackendError(f"llama-cpp-python does not load ({why}); reinstall it with `make setup`") from error

VERSION: str = llama_cpp.__version__
api = llama_cpp.llama_cpp
lib: ctypes.CDLL = api._lib  # noqa: SLF001 - the binding has no public name for the library that it loaded

_LEVELS = {1: logging.DEBUG, 2: logging.DEBUG, 3: logging.WARNING, 4: logging.ERROR}  # ggml_log_level
_GPUS = {1, 2}  # ggml_backend_dev_type: GPU, IGPU
_logger = logging.getLogger("dspark_local.llama")
_logger.addHandler(logging.NullHandler())
_pid = os.getpid()


class _Heard(threading.local):
    """What llama.cpp said on this thread."""

    def __init__(self) -> None:
        self.errors: deque[str] = deque(maxlen=8)
        self.listeners: list[list[str]] = []


_heard = _Heard()


@api.llama_log_callback  # type: ignore[untyped-decorator]  # llama_cpp has no types
def _log(level: int, text: bytes, _user_data: object) -> None:
    line = text.decode("utf-8", "replace").rstrip()
    if line and level in _LEVELS:
        if _LEVELS[level] == logging.ERROR:
            _heard.errors.append(line)
        for lines in _heard.listeners:
            lines.append(line)
        _logger.log(_LEVELS[level], "%s", line)


api.llama_log_set(_log, ctypes.c_void_p(0))
api.llama_backend_init()


def check_process() -> None:
    """Raise ForkError in a fork of the process that loaded llama.cpp: OpenMP's threads stayed behind, and it waits."""
    if os.getpid() != _pid:
        raise ForkError("this process was forked from one that uses llama.cpp; start it by spawn (multiprocessing)")


def last_error() -> str:
    """What llama.cpp said last when something failed on this thread, cut to one clause; then forgotten."""
    said = list(_heard.errors)
    _heard.errors.clear()
    if not said:
        return "no reason given"
    return said[0].partition(": ")[2][:200] or said[0][:200]


def forget_errors() -> None:
    """Start listening anew, before a call that may fail."""
    _heard.errors.clear()


@contextmanager
def listening() -> Iterator[list[str]]:
    """All that llama.cpp says on this thread meanwhile, line by line: some of what it knows is nowhere else."""
    lines: list[str] = []
    _heard.listeners.append(lines)
    try:
        yield lines
    finally:
        _heard.listeners.remove(lines)


def system_info() -> str:
    """What the build was compiled for, in llama.cpp's words."""
    return str(api.llama_print_system_info().decode())


def gpu_memory() -> dict[str, int]:
    """Free bytes of each GPU that this build drives, by name."""
    found = {}
    for i in range(_dev("count", ctypes.c_size_t, [])()):
        device = _dev("get", ctypes.c_void_p, [ctypes.c_size_t])(i)
        if _dev("type", ctypes.c_int, [ctypes.c_void_p])(device) in _GPUS:
            free, total = ctypes.c_size_t(), ctypes.c_size_t()
            pointer = ctypes.POINTER(ctypes.c_size_t)
            _dev("memory", None, [ctypes.c_void_p, pointer, pointer])(device, free, total)
            found[_dev("name", ctypes.c_char_p, [ctypes.c_void_p])(device).decode()] = free.value
    return found


def _dev(name: str, result: Any, arguments: list[Any]) -> Any:  # noqa: ANN401 - ctypes
    function = getattr(lib, f"ggml_backend_dev_{name}")
    function.restype, function.argtypes = result, arguments
    return function
