"""What llama.cpp's simulation says the contexts of a pair would take, read from its log: it tells nobody else.

The lines are those of the pinned version's llama-context.cpp, llama-kv-cache.cpp, llama-memory-recurrent.cpp and
llama-kv-cache-dsv4.cpp.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_MIB = 1 << 20
_BUFFER = re.compile(r".*: +(?P<device>\S+) +(?P<use>compute|output) buffer size = +(?P<mib>[\d.]+) MiB")
_STATE = re.compile(r"llama_(memory_recurrent|dsv4_comp_state): .*\bsize = +(?P<mib>[\d.]+) MiB")
_CACHE = re.compile(r".*: size = +(?P<mib>[\d.]+) MiB \(")


@dataclass(frozen=True, slots=True)
class Buffer:
    """Bytes of one buffer: of the target or the draft, on which device ("" where it follows the layers), for what.

    A `cache` grows with the context; a `state` does not.
    """

    of: str
    device: str
    use: str
    nbytes: int


def read_buffers(of: str, lines: Iterable[str]) -> tuple[Buffer, ...]:
    """Buffers of the context whose creation these lines tell; `of` says whose it is."""
    buffers = []
    for line in lines:
        if found := _BUFFER.match(line):
            buffers.append(Buffer(of, found["device"], found["use"], round(float(found["mib"]) * _MIB)))
        elif found := _STATE.match(line):
            buffers.append(Buffer(of, "", "state", round(float(found["mib"]) * _MIB)))
        elif found := _CACHE.match(line):
            buffers.append(Buffer(of, "", "cache", round(float(found["mib"]) * _MIB)))
    return tuple(buffers)
