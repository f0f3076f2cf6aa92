"""Llama 2 and 3, and Mistral before its third generation, which is the same graph: llama.cpp's `llama`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dspark_local.convert.family import ATTENTION, FFN, NORMS, Family, Row, forget, refuse
from dspark_local.convert.rope import Rope, read_rope

if TYPE_CHECKING:
    from gguf import GGUFWriter

    from dspark_local.convert.checkpoint import Floats
    from dspark_local.convert.config import Config

_Q, _K, _V, _O = ATTENTION
_LAYER = (
    *NORMS,
    Row(_Q.theirs, _Q.ours, _Q.shape, turn="interleave"),
    Row(_K.theirs, _K.ours, _K.shape, turn="interleave"),
    _V,
    _O,
    Row("self_attn.q_proj.bias", "attn_q.bias", "q", when="attention_bias", turn="interleave"),
    Row("self_attn.k_proj.bias", "attn_k.bias", "kv", when="attention_bias", turn="interleave"),
    Row("self_attn.v_proj.bias", "attn_v.bias", "kv", when="attention_bias"),
    Row("self_attn.o_proj.bias", "attn_output.bias", "hidden", when="attention_bias"),
    *FFN,
)


def _rope(config: Config) -> Rope:
    return read_rope(config, kinds=("default", "linear", "yarn", "llama3"))


def _keys(writer: GGUFWriter, config: Config) -> None:
    writer.add_rope_dimension_count(config.head_dim)
    _rope(config).write(writer)
    if config.get("sliding_window"):  # the graph has no window: what fits into it is computed alike
        forget(writer, "context_length")
        writer.add_context_length(min(config.count("max_position_embeddings"), config.count("sliding_window")))


def _computed(config: Config) -> dict[str, Floats]:
    factors = _rope(config).factors()
    return {} if factors is None else {"rope_freqs.weight": factors}


LLAMA = Family(
    arch="llama",
    architectures=("LlamaForCausalLM", "MistralForCausalLM"),
    layer=_LAYER,
    keys=_keys,
    check=lambda config: refuse(config, "mlp_bias", "num_local_experts"),
    computed=_computed,
)
