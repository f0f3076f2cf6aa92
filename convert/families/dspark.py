"""Drafters with llama.cpp's graph `dflash`: DSpark and DFlash over layers of the Qwen3 or of the Gemma 4 kind."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dspark_local.convert.families.gemma import GELU
from dspark_local.convert.families.gemma4 import proportional
from dspark_local.convert.family import (
    ATTENTION,
    FFN,
    HEAD_NORMS,
    LAST_NORM,
    NORMS,
    SANDWICH_NORMS,
    Family,
    Row,
    forget,
    refuse,
)
from dspark_local.convert.family import sizes as common_sizes
from dspark_local.convert.rope import FULL, read_rope

if TYPE_CHECKING:
    from gguf import GGUFWriter

    from dspark_local.convert.config import Config
    from dspark_local.convert.family import Sizes

FEATURES = (
    Row("fc.weight", "fc.weight", "hidden taps"),
    Row("hidden_norm.weight", "enc.output_norm.weight", "hidden"),
)
HEADS = (
    Row("markov_head.markov_w1.weight", "markov_w1.weight", "vocab rank"),
    Row("markov_head.markov_w2.weight", "markov_w2.weight", "draft_vocab rank"),
    Row("confidence_head.proj.weight", "conf_proj.weight", "conf_rows conf"),
    Row("confidence_head.proj.bias", "conf_proj.bias", "conf_bias"),
)
_Q, _K, _V, _O = ATTENTION
_Q_NORM, _K_NORM = HEAD_NORMS
_TURNED = tuple(Row(row.theirs, row.ours, row.shape, turn="separate") for row in (_Q, _K, _Q_NORM, _K_NORM))


def _check_qwen(config: Config) -> None:
    refuse(config, "attention_bias", "use_sliding_window")


def _keys_qwen(writer: GGUFWriter, config: Config) -> None:
    read_rope(config).write(writer)


def _check_gemma(config: Config) -> None:
    refuse(config, "attention_bias", "enable_moe_block", "final_logit_softcapping", act=GELU)
    if not config.flag("attention_k_eq_v"):
        raise config.fault("llama.cpp has a graph only for Gemma 4 drafters with attention_k_eq_v")
    if set(config.layer_types) - {FULL}:
        raise config.fault(f"llama.cpp has a graph only for Gemma 4 drafters whose layers all have {FULL}")


def _sizes_gemma(config: Config, _layer: int) -> Sizes:
    head = config.even("global_head_dim", config.count("global_head_dim"))
    return common_sizes(config) | {
        "head": head,
        "q": head * config.count("num_attention_heads"),
        "kv": head * config.count("num_global_key_value_heads"),
    }


def _keys_gemma(writer: GGUFWriter, config: Config) -> None:
    head = config.even("global_head_dim", config.count("global_head_dim"))
    forget(writer, "attention.key_length", "attention.value_length", "attention.head_count_kv")
    writer.add_key_length(head)
    writer.add_value_length(head)
    writer.add_rope_dimension_count(head)
    writer.add_head_count_kv(config.count("num_global_key_value_heads"))
    writer.add_rope_freq_base(_rope_gemma(config))
    writer.add_embedding_scale(config.count("hidden_size") ** 0.5)
    writer.add_attention_scale(1.0)
    writer.add_string("dflash.hidden_activation", GELU[0])


def _rope_gemma(config: Config) -> float:
    return read_rope(config, kinds=("default", "proportional")).theta


QWEN3_DRAFT = Family(
    arch="dflash",
    root=(*FEATURES, LAST_NORM, *HEADS),
    architectures=(
        "Qwen3DSparkModel",
        "DSparkDraftModel",
        "DSparkSpeculator",
        "Lfm2DSparkDraftModel",
        "DFlashDraftModel",
    ),
    layer=(*NORMS, *_TURNED[:2], _V, _O, *_TURNED[2:], *FFN),
    keys=_keys_qwen,
    check=_check_qwen,
)
GEMMA4_DRAFT = Family(
    arch="dflash",
    root=(*FEATURES, LAST_NORM, *HEADS),
    architectures=("Gemma4DSparkModel",),
    layer=(*SANDWICH_NORMS, _Q, _K, _O, *HEAD_NORMS, *FFN, Row("layer_scalar", "layer_output_scale.weight", "one")),
    keys=_keys_gemma,
    check=_check_gemma,
    computed=lambda config: {"rope_freqs.weight": proportional(config, config.count("global_head_dim"))},
    sizes=_sizes_gemma,
    defaults={  # Gemma4TextConfig's
        "rope_parameters": {
            FULL: {"rope_type": "proportional", "partial_rotary_factor": 0.25, "rope_theta": 1e6},
        },
        "rms_norm_eps": 1e-6,
    },
)
