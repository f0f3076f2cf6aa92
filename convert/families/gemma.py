"""Gemma 2 and Gemma 3: llama.cpp's `gemma2` and `gemma3`. Their norms are stored less 1."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dspark_local.convert.family import ATTENTION, FFN, HEAD_NORMS, SANDWICH_NORMS, Family, refuse
from dspark_local.convert.rope import FULL, SLIDING, read_rope

if TYPE_CHECKING:
    from gguf import GGUFWriter

    from dspark_local.convert.config import Config

GELU = ("gelu_pytorch_tanh", "gelu_tanh")
_WIDE_LAYERS = {"gemma2": 46, "gemma3": 62}  # by its layers llama.cpp tells the 27B, which scales otherwise


def _check_scale(config: Config, arch: str) -> None:
    """llama.cpp's graph scales queries by a rule of its own; another scale would be another function."""
    wide = config.layers == _WIDE_LAYERS[arch]
    built_in = config.count("hidden_size") // config.count("num_attention_heads") if wide else config.head_dim
    given = config.real("query_pre_attn_scalar", built_in)
    if given != built_in:
        raise config.fault(f"query_pre_attn_scalar is {given:g}, and llama.cpp's {arch} has {built_in} built in")


def _check_gemma2(config: Config) -> None:
    refuse(config, "attention_bias", act=GELU)
    _check_scale(config, "gemma2")
    if config.layer_types not in ([], _alternating(config.layers, 2)):
        raise config.fault("llama.cpp's gemma2 alternates sliding and full attention, layer_types says otherwise")


def _keys_gemma2(writer: GGUFWriter, config: Config) -> None:
    read_rope(config, kinds=("default",)).write(writer)
    writer.add_attn_logit_softcapping(config.real("attn_logit_softcapping"))
    writer.add_final_logit_softcapping(config.real("final_logit_softcapping"))
    writer.add_sliding_window(config.count("sliding_window"))


def _check_gemma3(config: Config) -> None:
    refuse(config, "attention_bias", "attn_logit_softcapping", "use_bidirectional_attention", act=GELU)
    _check_scale(config, "gemma3")


def _keys_gemma3(writer: GGUFWriter, config: Config) -> None:
    read_rope(config, kinds=("default", "linear")).write(writer)
    types = config.layer_types or _alternating(config.layers, config.count("sliding_window_pattern", 6))
    writer.add_sliding_window(config.count("sliding_window"))
    writer.add_sliding_window_pattern([kind == SLIDING for kind in types])
    writer.add_rope_freq_base_swa(read_rope(config, layers=SLIDING, kinds=("default",)).theta)
    if config.get("final_logit_softcapping"):
        writer.add_final_logit_softcapping(config.real("final_logit_softcapping"))


def _alternating(layers: int, period: int) -> list[str]:
    """Every `period`-th layer attends to all, the others through a window."""
    return [SLIDING if (i + 1) % period else FULL for i in range(layers)]


GEMMA2 = Family(
    arch="gemma2",
    architectures=("Gemma2ForCausalLM",),
    layer=(*SANDWICH_NORMS, *ATTENTION, *FFN),
    keys=_keys_gemma2,
    check=_check_gemma2,
    shifted_norms=True,
    tied=True,
)
GEMMA3 = Family(
    arch="gemma3",
    architectures=("Gemma3ForCausalLM", "Gemma3ForConditionalGeneration"),
    layer=(*SANDWICH_NORMS, *ATTENTION, *HEAD_NORMS, *FFN),
    keys=_keys_gemma3,
    check=_check_gemma3,
    defaults={  # Gemma3TextConfig's own, which the published files of 4B and up leave out
        "vocab_size": 262208,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 256,
        "max_position_embeddings": 131072,
        "rms_norm_eps": 1e-6,
        "rope_theta": 1e6,
        "rope_local_base_freq": 10000.0,
        "sliding_window": 4096,
        "query_pre_attn_scalar": 256,
    },
    shifted_norms=True,
    tied=True,
)
