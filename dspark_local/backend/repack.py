"""Which weights llama.cpp copies into another layout on this CPU, and so holds twice: in the mapped file and out of it.

After ggml_repack_get_optimal_repack_type in ggml-cpu/repack.cpp, at the pinned version.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from dspark_local.formats.gguf import GGUF

# A CPU feature, the types it repacks, and of what the number of rows must be a multiple; the first that fits counts.
_RULES: tuple[tuple[str, dict[str, int]], ...] = (
    ("avx2", {"Q4_0": 8, "Q4_K": 8, "IQ4_NL": 8, "MXFP4": 8}),
    ("avx512", {"Q2_K": 8}),
    ("dotprod", {"Q4_0": 4, "Q4_K": 8, "Q5_K": 8, "Q6_K": 8, "IQ4_NL": 4, "MXFP4": 4, "Q8_0": 4}),
)
_ROWS_ONLY = (
    "token_embd.weight",
    "per_layer_token_embd.weight",
    "markov_w1.weight",
)  # looked up, never multiplied with
_MOST_DIMS = 3


def cpu_has(feature: str) -> bool:
    """Whether this CPU, and this build of llama.cpp, have a feature by its name in ggml-cpu.h."""
    from dspark_local.backend.library import lib  # noqa: PLC0415 - llama.cpp, which the rules alone do without

    return bool(getattr(lib, f"ggml_cpu_has_{feature}")())


def repacked_bytes(file: GGUF, has: Callable[[str], bool] = cpu_has) -> int:
    """Bytes of a file's weights in their other layout; a head that is tied to the embedding is repacked for itself."""
    rows: dict[str, int] = {}
    for feature, types in _RULES:
        if has(feature):
            rows = types | rows
    tied = "output.weight" not in file.tensors
    total = 0
    for name, info in file.tensors.items():
        multiplied = name not in _ROWS_ONLY or (tied and name == "token_embd.weight")
        multiple = rows.get(info.type.name)
        if multiplied and multiple and 1 < len(info.shape) <= _MOST_DIMS and info.shape[1] % multiple == 0:
            total += info.nbytes
    return total
