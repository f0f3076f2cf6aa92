"""Architectures whose layers keep a state, and which of them llama.cpp takes back tokens of.

The lists are llm_arch_is_recurrent, llm_arch_is_hybrid and llm_arch_supports_rs_rollback in llama.cpp's
src/llama-arch.cpp, at the pinned version.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dspark_local.formats.faults import one_line

if TYPE_CHECKING:
    from dspark_local.formats.gguf import GGUF

_GOES_BACK = frozenset(
    [
        "bailingmoe3",
        "deepseek4",
        "glm5-next",
        "kimi-k3",
        "lfm2",
        "lfm2moe",
        "nemotron_h",
        "nemotron_h_moe",
        "qwen35",
        "qwen35moe",
        "qwen4exp",
    ]
)
_NEVER = frozenset(
    [
        "arwkv7",
        "falcon-h1",
        "granitehybrid",
        "jamba",
        "kimi-linear",
        "mamba",
        "mamba2",
        "minimax-01",
        "plamo2",
        "qwen3next",
        "rwkv6",
        "rwkv6qwen2",
        "rwkv7",
    ]
)


def is_recurrent(model: GGUF) -> bool:
    """Whether its cache goes back by the tokens of its last decode at most."""
    return model.arch in _GOES_BACK or cannot_verify(model) is not None


def cannot_verify(target: GGUF) -> str | None:
    """Why nothing can draft for a target: what it decoded is never taken back. None if something can."""
    if target.arch not in _NEVER:
        return None
    return f"{one_line(target.path.name)} keeps a state that llama.cpp cannot take back tokens of ({target.arch})"
