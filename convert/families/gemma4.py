"""Dense Gemma 4: llama.cpp's `gemma4`. Full layers have heads of their own, late layers may share keys and values."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dspark_local.convert.families.gemma import GELU
from dspark_local.convert.family import ATTENTION, FFN, HEAD_NORMS, SANDWICH_NORMS, Family, Row, forget, refuse
from dspark_local.convert.family import sizes as common_sizes
from dspark_local.convert.rope import FULL, SLIDING, read_rope

if TYPE_CHECKING:
    from gguf import GGUFWriter

    from dspark_local.convert.checkpoint import Floats
    from dspark_local.convert.config import Config
    from dspark_local.convert.family import Sizes

_Q, _K, _V, _O = ATTENTION
_Q_NORM, _K_NORM = HEAD_NORMS
_LAYER = (
    *SANDWICH_NORMS,
    _Q,
    _K,
    Row(_V.theirs, _V.ours, "v hidden"),
    _O,
    _Q_NORM,
    Row(_K_NORM.theirs, _K_NORM.ours, "k_norm"),
    *FFN,
    Row("layer_scalar", "layer_output_scale.weight", "one"),
    Row("per_layer_input_gate.weight", "inp_gate.weight", "per_layer hidden"),
    Row("per_layer_projection.weight", "proj.weight", "hidden per_layer"),
    Row("post_per_layer_input_norm.weight", "post_norm.weight", "per_layer_norm"),
)
_ROOT = (
    Row("embed_tokens_per_layer.weight", "per_layer_token_embd.weight", "per_layer_vocab all_per_layer"),
    Row("per_layer_model_projection.weight", "per_layer_model_proj.weight", "all_per_layer hidden"),
    Row("per_layer_projection_norm.weight", "per_layer_proj_norm.weight", "per_layer"),
)


def _types(config: Config) -> list[str]:
    types = config.layer_types
    if not types or set(types) - {FULL, SLIDING}:
        raise config.fault(f"layer_types must say {FULL} or {SLIDING} for every layer")
    return types


def _shared(config: Config) -> int:
    shared = config.get("num_kv_shared_layers", 0)
    if not isinstance(shared, int) or not 0 <= shared < config.layers:
        raise config.fault(f"num_kv_shared_layers must be a number below the layers', not {shared!r}")
    return shared


def _head(config: Config, kind: str) -> int:
    return (
        config.even("global_head_dim", config.count("global_head_dim", config.head_dim))
        if kind == FULL
        else config.head_dim
    )


def _kv_heads(config: Config, kind: str) -> int:
    sliding = config.count("num_key_value_heads")
    return config.count("num_global_key_value_heads", sliding) if kind == FULL else sliding


def _ffn(config: Config, layer: int) -> int:
    shares = layer >= config.layers - _shared(config)
    return config.count("intermediate_size") * (2 if shares and config.get("use_double_wide_mlp") else 1)


def _sizes(config: Config, layer: int) -> Sizes:
    """Those of a layer; 0 is the size of what it has not."""
    kind = _types(config)[layer]
    head, layers = _head(config, kind), config.layers
    own = layer < layers - _shared(config)
    kv = head * _kv_heads(config, kind) * own
    equal = kind == FULL and bool(config.get("attention_k_eq_v"))
    per_layer = config.count("hidden_size_per_layer_input") if config.get("hidden_size_per_layer_input") else 0
    return common_sizes(config) | {
        "head": head,
        "q": head * config.count("num_attention_heads"),
        "kv": kv,
        "v": 0 if equal else kv,
        "k_norm": head * own,
        "ffn": _ffn(config, layer),
        "per_layer": per_layer,
        "per_layer_norm": config.count("hidden_size") if per_layer else 0,
        "per_layer_vocab": config.count("vocab_size_per_layer_input", config.count("vocab_size")),
        "all_per_layer": per_layer * layers,
    }


def _keys(writer: GGUFWriter, config: Config) -> None:
    types, layers = _types(config), config.layers
    full = _head(config, FULL)
    forget(writer, "attention.key_length", "attention.value_length", "attention.head_count_kv", "feed_forward_length")
    writer.add_key_length(full)
    writer.add_value_length(full)
    writer.add_key_length_swa(config.head_dim)
    writer.add_value_length_swa(config.head_dim)
    writer.add_head_count_kv([_kv_heads(config, kind) for kind in types])
    writer.add_feed_forward_length([_ffn(config, i) for i in range(layers)])
    writer.add_rope_dimension_count(full)
    writer.add_rope_dimension_count_swa(config.head_dim)
    writer.add_rope_freq_base(read_rope(config, kinds=("proportional",)).theta)
    writer.add_rope_freq_base_swa(read_rope(config, layers=SLIDING, kinds=("default",)).theta)
    writer.add_sliding_window(config.count("sliding_window"))
    writer.add_sliding_window_pattern([kind == SLIDING for kind in types])
    writer.add_shared_kv_layers(_shared(config))
    writer.add_embedding_length_per_layer_input(config.get("hidden_size_per_layer_input", 0))
    if config.get("final_logit_softcapping"):
        writer.add_final_logit_softcapping(config.real("final_logit_softcapping"))


def proportional(config: Config, head: int) -> Floats:
    """Factors that leave the pairs beyond partial_rotary_factor unturned, [head / 2]: their frequency goes to 0."""
    share = config.positive("partial_rotary_factor", read_rope(config, kinds=("proportional",)).parameters.get(
        "partial_rotary_factor", 1.0))  # fmt: skip
    factors = np.full(head // 2, 1e30, np.float32)
    factors[: int(head * share / 2)] = 1
    return factors


def _unused(config: Config) -> frozenset[str]:
    """Keys and values of layers that share those of an earlier one."""
    shared = range(config.layers - _shared(config), config.layers)
    return frozenset(f"layers.{i}.{row.theirs}" for i in shared for row in (_K, _V, _K_NORM))


GEMMA4 = Family(
    arch="gemma4",
    architectures=("Gemma4ForCausalLM", "Gemma4ForConditionalGeneration"),
    layer=_LAYER,
    root=_ROOT,
    keys=_keys,
    check=lambda config: refuse(config, "attention_bias", "enable_moe_block", "num_experts", act=GELU),
    computed=lambda config: {"rope_freqs.weight": proportional(config, _head(config, FULL))},
    sizes=_sizes,
    unused=_unused,
    tied=True,
    tokenizer="gemma4",
    defaults={"rms_norm_eps": 1e-6, "hidden_activation": GELU[0]},
)
