"""Dense Qwen2, Qwen2.5 and Qwen3: llama.cpp's `qwen2` and `qwen3`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dspark_local.convert.family import ATTENTION, FFN, HEAD_NORMS, NORMS, Family, Row, refuse
from dspark_local.convert.rope import read_rope

if TYPE_CHECKING:
    from gguf import GGUFWriter

    from dspark_local.convert.config import Config

_BIASES = (
    Row("self_attn.q_proj.bias", "attn_q.bias", "q"),
    Row("self_attn.k_proj.bias", "attn_k.bias", "kv"),
    Row("self_attn.v_proj.bias", "attn_v.bias", "kv"),
)


def _keys(writer: GGUFWriter, config: Config) -> None:
    read_rope(config).write(writer)


def _check_qwen2(config: Config) -> None:
    refuse(config, "use_sliding_window")
    if config.head_dim * config.count("num_attention_heads") != config.count("hidden_size"):
        raise config.fault("llama.cpp's qwen2 wants heads that together are as wide as hidden_size")


QWEN2 = Family(
    arch="qwen2",
    architectures=("Qwen2ForCausalLM",),
    layer=(*NORMS, *ATTENTION, *_BIASES, *FFN),
    keys=_keys,
    check=_check_qwen2,
)
QWEN3 = Family(
    arch="qwen3",
    architectures=("Qwen3ForCausalLM",),
    layer=(*NORMS, *ATTENTION, *HEAD_NORMS, *FFN),
    keys=_keys,
    check=lambda config: refuse(config, "attention_bias", "use_sliding_window"),
)
