"""llama.cpp's own quantiser: one GGUF of plain floats becomes another of a recipe such as Q4_K_M."""

from __future__ import annotations

import ctypes
import logging
import re
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from dspark_local.backend.library import api, last_error
from dspark_local.errors import ConvertError
from dspark_local.formats.gguf import GGUF

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

Progress = Callable[[int, int], None]  # tensors done, tensors in all
Importance = dict[str, "npt.NDArray[np.float32]"]

# llama.h's LLAMA_FTYPE_MOSTLY_*, as far as they are for dense models.
RECIPES = {
    "Q4_0": 2, "Q4_1": 3, "Q5_0": 8, "Q5_1": 9, "Q8_0": 7,
    "Q2_K": 10, "Q2_K_S": 21, "Q3_K_S": 11, "Q3_K_M": 12, "Q3_K_L": 13,
    "Q4_K_S": 14, "Q4_K_M": 15, "Q5_K_S": 16, "Q5_K_M": 17, "Q6_K": 18,
    "IQ2_XXS": 19, "IQ2_XS": 20, "IQ2_S": 28, "IQ2_M": 29, "IQ3_XXS": 23, "IQ3_XS": 22, "IQ3_S": 26, "IQ3_M": 27,
    "IQ4_NL": 25, "IQ4_XS": 30,
}  # fmt: skip
_AT_A_TIME = 256 << 20  # bytes of rows that it holds; its own default is 8 GiB
_SUMS, _COUNTS = ".in_sum2", ".counts"  # tensors of an importance matrix, behind the name of the weight
_STEP = re.compile(r"\[ *(\d+)/ *(\d+)\]")
_SIZE = re.compile(r"quant size *= *([\d.]+) MiB")


def read_importance(path: Path) -> Importance:
    """An importance matrix as llama-imatrix writes it: weight → mean square of each of its inputs.

    Raises ModelError for a file that is none.
    """
    gguf = GGUF.open(path)
    found: Importance = {}
    for name in gguf.tensors:
        if name.endswith(_SUMS) and (counts := name.removesuffix(_SUMS) + _COUNTS) in gguf.tensors:
            n = gguf.rows(counts, slice(None)).reshape(-1, 1)
            sums = gguf.rows(name, slice(None)).reshape(len(n), -1)
            mean = np.where(n > 0, sums / np.maximum(n, 1), 1)
            found[name.removesuffix(_SUMS)] = np.ascontiguousarray(mean.reshape(-1), np.float32)
    if not found or not all(np.isfinite(values).all() for values in found.values()):
        raise ConvertError(f"{path} is no importance matrix; `llama-imatrix` makes one (as GGUF)")
    return found


def estimate(source: Path, recipe: str, *, importance: Importance | None = None) -> int:
    """Bytes that the tensors of `source` will take; its data is not read. Raises ConvertError."""
    sizes: list[float] = []

    def hear(line: str) -> None:
        if found := _SIZE.search(line):
            sizes.append(float(found[1]))

    _run(source, source.with_suffix(".none"), recipe, importance, threads=1, hear=hear, dry=True)
    return int(sizes[-1] * (1 << 20))


def quantise(
    source: Path,
    out: Path,
    recipe: str,
    *,
    importance: Importance | None = None,
    threads: int,
    progress: Progress | None = None,
) -> None:
    """Write `source` to `out`, which is not whole before this returns. Raises ConvertError."""

    def hear(line: str) -> None:
        if progress and (found := _STEP.match(line)):
            progress(int(found[1]), int(found[2]))

    _run(source, out, recipe, importance, threads=threads, hear=hear)


def _run(
    source: Path,
    out: Path,
    recipe: str,
    importance: Importance | None,
    *,
    threads: int,
    hear: Callable[[str], None],
    dry: bool = False,
) -> None:
    params = api.llama_model_quantize_default_params()
    params.ftype, params.nthread, params.max_buf_size, params.dry_run = RECIPES[recipe], threads, _AT_A_TIME, dry
    entries = _entries(importance or {})
    if importance:
        params.imatrix = entries
    failures = ["it did not end"]

    def work() -> None:
        failed = api.llama_model_quantize(str(source).encode(), str(out).encode(), ctypes.byref(params))
        failures[:] = [last_error()] if failed else []  # errors are heard by thread

    with _Listener(hear):
        # in a thread of its own, so that Ctrl-C is heard while llama.cpp works
        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        while thread.is_alive():
            thread.join(0.2)
    if failures:
        raise ConvertError(f"llama.cpp cannot quantise to {recipe}: {failures[0]}")


def _entries(importance: Importance) -> Any:  # noqa: ANN401 - an array, ended by an entry without a name
    entry, pointer = api.llama_model_imatrix_data, ctypes.POINTER(ctypes.c_float)
    rows = [entry(name.encode(), v.ctypes.data_as(pointer), v.size) for name, v in importance.items()]
    return (entry * (len(rows) + 1))(*rows, entry())


class _Listener(logging.Handler):
    """Hears llama.cpp's log, which is all that its quantiser says of itself."""

    def __init__(self, hear: Callable[[str], None]) -> None:
        super().__init__(logging.DEBUG)
        self._hear = hear
        self._logger = logging.getLogger("dspark_local.llama")

    def emit(self, record: logging.LogRecord) -> None:
        self._hear(record.getMessage())

    def __enter__(self) -> None:
        self._level = self._logger.level
        self._logger.setLevel(logging.DEBUG)
        self._logger.addHandler(self)

    def __exit__(self, *_exception: object) -> None:
        self._logger.removeHandler(self)
        self._logger.setLevel(self._level)
