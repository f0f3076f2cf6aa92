"""DeepSeek-V4's DSpark drafters: stages under `mtp.` in the target's own checkpoint, for llama.cpp's graph `dflash`.

Layout: llama.cpp's conversion/deepseek.py (DeepseekV4DSparkModel), and what ports quote of index, config.json and
inference/model.py of deepseek-ai/DeepSeek-V4-Flash-DSpark. A stage is a whole DeepSeek-V4 layer without compressed
attention: hyper-connections around latent attention with a sink, and around a mixture of experts.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from dspark_local.convert.config import shown
from dspark_local.convert.families.dspark import HEADS
from dspark_local.convert.family import LAST_NORM, Family, Row, refuse
from dspark_local.errors import ConvertError

if TYPE_CHECKING:
    from gguf import GGUFWriter

    from dspark_local.convert.checkpoint import Checkpoint
    from dspark_local.convert.config import Config
    from dspark_local.convert.family import Sizes

STAGES = "mtp."
_STAGE = re.compile(r"mtp\.(\d{1,3})\.(.+)")
# What only the first or the last stage has.
_ROOT = ("main_proj.", "main_norm.", "norm.", "hc_head_", "markov_head.", "confidence_head.")
_DIALECT = {  # what others call it → what this checkpoint does
    "block_size": "dspark_block_size",
    "mask_token_id": "dspark_noise_token_id",
    "target_layer_ids": "dspark_target_layer_ids",
    "markov_rank": "dspark_markov_rank",
    "num_target_layers": "num_hidden_layers",
    "intermediate_size": "moe_intermediate_size",
}
_STREAMS = 4  # hyper-connections that the graph asserts
_SQRT_SOFTPLUS = 4  # LLAMA_EXPERT_GATING_FUNC_TYPE_SQRT_SOFTPLUS


def _bare(name: str) -> str | None:
    found = _STAGE.fullmatch(name)
    if found is None:
        return None  # the target's
    stage, rest = found.groups()
    return rest if rest.startswith(_ROOT) else f"layers.{int(stage)}.{rest}"


def _settings(checkpoint: Checkpoint) -> dict[str, Any]:
    """config.json speaks of the target; what it says of the drafter has names and stages of its own."""
    config = checkpoint.config
    if missing := sorted(name for name in _DIALECT.values() if config.get(name) is None):
        raise ConvertError(f"{checkpoint.folder} holds no DSpark drafter: its config.json has no {missing[0]}")
    stages = {int(found[1]) for name in checkpoint.tensors if (found := _STAGE.fullmatch(name))}
    if not stages:
        raise ConvertError(f"{checkpoint.folder} holds no DSpark drafter: it has no tensors named mtp.*")
    return config | {ours: config[theirs] for ours, theirs in _DIALECT.items()} | {"num_hidden_layers": max(stages) + 1}


def _check(config: Config) -> None:
    refuse(config, "attention_bias")
    if config.count("hc_mult") != _STREAMS:
        raise config.fault(f"llama.cpp has a graph only for hc_mult {_STREAMS}, not {config.count('hc_mult')}")
    if config.get("scoring_func") != "sqrtsoftplus":
        raise config.fault(
            f"llama.cpp's graph has no scoring_func {shown(config.get('scoring_func'))}, only sqrtsoftplus"
        )
    if config.count("num_attention_heads") % config.count("o_groups"):
        raise config.fault("num_attention_heads must divide into o_groups")
    if config.even("qk_rope_head_dim", config.count("qk_rope_head_dim")) > config.head_dim:
        raise config.fault(f"qk_rope_head_dim is more than head_dim {config.head_dim}")
    if config.count("num_experts_per_tok") > config.count("n_routed_experts"):
        raise config.fault("num_experts_per_tok is more than n_routed_experts")


def _sizes(config: Config, _layer: int) -> Sizes:
    hidden, heads = config.count("hidden_size"), config.count("num_attention_heads")
    q, groups, streams = heads * config.head_dim, config.count("o_groups"), config.count("hc_mult")
    return {
        "one": 1,
        "three": 3,
        "vocab": config.count("vocab_size"),
        "hidden": hidden,
        "head": config.head_dim,
        "heads": heads,
        "q": q,
        "q_rank": config.count("q_lora_rank"),
        "group": q // groups,
        "o_rank": groups * config.count("o_lora_rank"),
        "streams": streams,
        "flat": streams * hidden,
        "mixes": (2 + streams) * streams,
        "experts": config.count("n_routed_experts"),
        "expert": config.count("moe_intermediate_size"),
        "shared": config.count("n_shared_experts") * config.count("moe_intermediate_size"),
    }


def _unused(config: Config) -> frozenset[str]:
    return frozenset(f"layers.{i}.ffn.gate.bias_vl" for i in range(config.layers))  # for tokens of images


def _keys(writer: GGUFWriter, config: Config) -> None:
    layers, limit = config.layers, config.real("swiglu_limit")
    writer.add_rope_dimension_count(config.count("qk_rope_head_dim"))
    writer.add_rope_freq_base(config.real("rope_theta"))  # uncompressed attention is not scaled
    writer.add_q_lora_rank(config.count("q_lora_rank"))
    writer.add_sliding_window(config.count("sliding_window"))
    writer.add_expert_count(config.count("n_routed_experts"))
    writer.add_expert_used_count(config.count("num_experts_per_tok"))
    writer.add_expert_shared_count(config.count("n_shared_experts"))
    writer.add_expert_feed_forward_length(config.count("moe_intermediate_size"))
    writer.add_expert_weights_scale(config.real("routed_scaling_factor"))
    writer.add_expert_weights_norm(config.flag("norm_topk_prob"))
    writer.add_uint32("dflash.expert_gating_func", _SQRT_SOFTPLUS)
    writer.add_array("dflash.swiglu_clamp_exp", [limit] * layers)
    writer.add_array("dflash.swiglu_clamp_shexp", [limit] * layers)
    writer.add_uint32("dflash.attention.output_group_count", config.count("o_groups"))
    writer.add_uint32("dflash.attention.output_lora_rank", config.count("o_lora_rank"))
    writer.add_array("dflash.attention.compress_ratios", [0] * layers)
    writer.add_uint32("dflash.hyper_connection.count", config.count("hc_mult"))
    writer.add_uint32("dflash.hyper_connection.sinkhorn_iterations", config.count("hc_sinkhorn_iters"))
    writer.add_float32("dflash.hyper_connection.epsilon", config.real("hc_eps"))


_HYPER = tuple(
    Row(f"hc_{half}_{name}", f"hc_{half}_{name}.weight", shape)
    for half in ("attn", "ffn")
    for name, shape in (("fn", "mixes flat"), ("base", "mixes"), ("scale", "three"))
)
_LAYER = (
    Row("attn_norm.weight", "attn_norm.weight", "hidden"),
    Row("attn.attn_sink", "attn_sinks.weight", "heads"),
    Row("attn.wq_a.weight", "attn_q_a.weight", "q_rank hidden"),
    Row("attn.q_norm.weight", "attn_q_a_norm.weight", "q_rank"),
    Row("attn.wq_b.weight", "attn_q_b.weight", "q q_rank"),
    Row("attn.wkv.weight", "attn_kv.weight", "head hidden"),
    Row("attn.kv_norm.weight", "attn_kv_a_norm.weight", "head"),
    Row("attn.wo_a.weight", "attn_output_a.weight", "o_rank group"),
    Row("attn.wo_b.weight", "attn_output_b.weight", "hidden o_rank"),
    *_HYPER,
    Row("ffn_norm.weight", "ffn_norm.weight", "hidden"),
    Row("ffn.gate.weight", "ffn_gate_inp.weight", "experts hidden"),
    Row("ffn.gate.bias", "exp_probs_b.bias", "experts"),
    Row("ffn.experts.*.w1.weight", "ffn_gate_exps.weight", "experts expert hidden"),
    Row("ffn.experts.*.w2.weight", "ffn_down_exps.weight", "experts hidden expert"),
    Row("ffn.experts.*.w3.weight", "ffn_up_exps.weight", "experts expert hidden"),
    Row("ffn.shared_experts.w1.weight", "ffn_gate_shexp.weight", "shared hidden"),
    Row("ffn.shared_experts.w2.weight", "ffn_down_shexp.weight", "hidden shared"),
    Row("ffn.shared_experts.w3.weight", "ffn_up_shexp.weight", "shared hidden"),
)
DEEPSEEK4_DRAFT = Family(
    arch="dflash",
    architectures=("DeepseekV4ForCausalLM", "DeepseekV4DSparkModel"),
    root=(
        Row("main_proj.weight", "fc.weight", "hidden taps"),
        Row("main_norm.weight", "enc.output_norm.weight", "hidden"),
        Row("hc_head_fn", "output_hc_fn.weight", "streams flat"),
        Row("hc_head_base", "output_hc_base.weight", "streams"),
        Row("hc_head_scale", "output_hc_scale.weight", "one"),
        LAST_NORM,
        *HEADS,
    ),
    layer=_LAYER,
    keys=_keys,
    check=_check,
    sizes=_sizes,
    unused=_unused,
    bare=_bare,
    settings=_settings,
)
