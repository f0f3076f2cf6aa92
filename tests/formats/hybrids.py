"""Tiny targets of random weights whose layers keep a state beside keys and values, or instead of them.

Names and shapes are those of llama.cpp's loaders (src/models/lfm2.cpp, lfm2moe.cpp, qwen35.cpp, deepseek4.cpp,
mamba.cpp); the figures of DeepSeek-V4 are those of tests/convert/deepseek.py, so that its drafter fits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tests.convert import deepseek as v4
from tests.convert.configs import VOCAB
from tests.formats import tiny
from tests.formats.tiny import (
    BOOL,
    F32,
    HEAD_DIM,
    I32,
    N_EMBD,
    N_FF,
    N_HEAD,
    N_KV,
    N_VOCAB,
    PLAIN,
    U32,
    Array,
    Tensor,
    Tiny,
)

if TYPE_CHECKING:
    from collections.abc import Callable

INDEXERS, WINDOW = 8, 8  # of DeepSeek-V4: fewer heads than are published, and a window that a test gets behind
LFM_KERNEL, EXPERTS, USED, SSM_STATE, SSM_KERNEL = 3, 4, 2, 32, 4


class _Weights:
    """Random tensors from a seed, in F32: what is compared is the same function twice."""

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)

    def matrix(self, *shape: int) -> Tensor:
        values = self._random.standard_normal(shape) / np.sqrt(shape[-1])
        return Tensor(values.astype(np.float32), PLAIN)

    def norm(self, width: int) -> Tensor:
        return Tensor((1 + self._random.standard_normal(width) / 8).astype(np.float32), PLAIN)

    def bias(self, width: int) -> Tensor:
        return Tensor((self._random.standard_normal(width) / 8).astype(np.float32), PLAIN)

    def attention(self, at: str) -> dict[str, Tensor]:
        q, kv = N_HEAD * HEAD_DIM, N_KV * HEAD_DIM
        return {
            f"{at}attn_q.weight": self.matrix(q, N_EMBD),
            f"{at}attn_k.weight": self.matrix(kv, N_EMBD),
            f"{at}attn_v.weight": self.matrix(kv, N_EMBD),
            f"{at}attn_output.weight": self.matrix(N_EMBD, q),
            f"{at}attn_q_norm.weight": self.norm(HEAD_DIM),
            f"{at}attn_k_norm.weight": self.norm(HEAD_DIM),
        }

    def ffn(self, at: str) -> dict[str, Tensor]:
        return {
            f"{at}ffn_gate.weight": self.matrix(N_FF, N_EMBD),
            f"{at}ffn_up.weight": self.matrix(N_FF, N_EMBD),
            f"{at}ffn_down.weight": self.matrix(N_EMBD, N_FF),
        }

    def experts(self, at: str) -> dict[str, Tensor]:
        return {
            f"{at}ffn_gate_inp.weight": self.matrix(EXPERTS, N_EMBD),
            f"{at}ffn_gate_exps.weight": self.matrix(EXPERTS, N_FF, N_EMBD),
            f"{at}ffn_up_exps.weight": self.matrix(EXPERTS, N_FF, N_EMBD),
            f"{at}ffn_down_exps.weight": self.matrix(EXPERTS, N_EMBD, N_FF),
            f"{at}exp_probs_b.bias": self.bias(EXPERTS),
        }


def lfm2(*, moe: bool = False, seed: int = 5) -> Tiny:
    """LFM2.5: short convolutions, and attention in every second layer; `moe` as the 8B-A1B has it behind one layer."""
    arch, n_layer, w = "lfm2moe" if moe else "lfm2", 4, _Weights(seed)
    tensors = {"token_embd.weight": w.matrix(N_VOCAB, N_EMBD), "token_embd_norm.weight": w.norm(N_EMBD)}
    for i in range(n_layer):
        at = f"blk.{i}."
        tensors |= {f"{at}attn_norm.weight": w.norm(N_EMBD), f"{at}ffn_norm.weight": w.norm(N_EMBD)}
        tensors |= w.experts(at) if moe and i else w.ffn(at)
        if i % 2:
            tensors |= w.attention(at)
        else:
            tensors |= {
                f"{at}shortconv.conv.weight": w.matrix(N_EMBD, LFM_KERNEL),
                f"{at}shortconv.in_proj.weight": w.matrix(3 * N_EMBD, N_EMBD),
                f"{at}shortconv.out_proj.weight": w.matrix(N_EMBD, N_EMBD),
            }
    keys = tiny.vocab_keys() | tiny.hyper_keys(arch, n_layer)
    keys |= {
        f"{arch}.attention.head_count_kv": Array(I32, [0, N_KV] * (n_layer // 2)),
        f"{arch}.shortconv.l_cache": (U32, LFM_KERNEL),
        f"{arch}.vocab_size": (U32, N_VOCAB),
    }
    if moe:
        keys |= {
            f"{arch}.leading_dense_block_count": (U32, 1),
            f"{arch}.expert_feed_forward_length": (U32, N_FF),
            f"{arch}.expert_count": (U32, EXPERTS),
            f"{arch}.expert_used_count": (U32, USED),
            f"{arch}.expert_gating_func": (U32, 2),
        }
    return Tiny(arch, keys, tensors)


def qwen35(*, seed: int = 6) -> Tiny:
    """Qwen3.5: three layers of a gated delta rule to one of gated attention."""
    n_layer, heads, w = 4, 2, _Weights(seed)
    inner, wide = heads * SSM_STATE, 3 * heads * SSM_STATE
    tensors = {"token_embd.weight": w.matrix(N_VOCAB, N_EMBD), "output_norm.weight": w.norm(N_EMBD)}
    for i in range(n_layer):
        at = f"blk.{i}."
        tensors |= {f"{at}attn_norm.weight": w.norm(N_EMBD), f"{at}post_attention_norm.weight": w.norm(N_EMBD)}
        tensors |= w.ffn(at)
        if i == n_layer - 1:
            tensors |= w.attention(at) | {f"{at}attn_q.weight": w.matrix(2 * N_HEAD * HEAD_DIM, N_EMBD)}
        else:
            tensors |= {
                f"{at}attn_qkv.weight": w.matrix(wide, N_EMBD),
                f"{at}attn_gate.weight": w.matrix(inner, N_EMBD),
                f"{at}ssm_conv1d.weight": w.matrix(wide, SSM_KERNEL),
                f"{at}ssm_dt.bias": w.bias(heads),
                f"{at}ssm_a": w.bias(heads),
                f"{at}ssm_beta.weight": w.matrix(heads, N_EMBD),
                f"{at}ssm_alpha.weight": w.matrix(heads, N_EMBD),
                f"{at}ssm_norm.weight": w.norm(SSM_STATE),
                f"{at}ssm_out.weight": w.matrix(N_EMBD, inner),
            }
    keys = tiny.vocab_keys() | tiny.hyper_keys("qwen35", n_layer)
    keys |= {
        "qwen35.rope.dimension_count": (U32, HEAD_DIM),
        "qwen35.rope.dimension_sections": Array(I32, [6, 5, 5, 0]),
        "qwen35.ssm.conv_kernel": (U32, SSM_KERNEL),
        "qwen35.ssm.inner_size": (U32, inner),
        "qwen35.ssm.state_size": (U32, SSM_STATE),
        "qwen35.ssm.time_step_rank": (U32, heads),
        "qwen35.ssm.group_count": (U32, heads),
        "qwen35.full_attention_interval": (U32, 4),
    }
    return Tiny("qwen35", keys, tensors)


def mamba(*, seed: int = 7) -> Tiny:
    """Mamba: a state and nothing else, of which llama.cpp keeps no earlier ones."""
    n_layer, inner, state, rank, w = 2, 2 * N_EMBD, 16, 8, _Weights(seed)
    tensors = {"token_embd.weight": w.matrix(N_VOCAB, N_EMBD), "output_norm.weight": w.norm(N_EMBD)}
    for i in range(n_layer):
        at = f"blk.{i}."
        tensors |= {
            f"{at}attn_norm.weight": w.norm(N_EMBD),
            f"{at}ssm_in.weight": w.matrix(2 * inner, N_EMBD),
            f"{at}ssm_conv1d.weight": w.matrix(inner, SSM_KERNEL),
            f"{at}ssm_conv1d.bias": w.bias(inner),
            f"{at}ssm_x.weight": w.matrix(rank + 2 * state, inner),
            f"{at}ssm_dt.weight": w.matrix(inner, rank),
            f"{at}ssm_dt.bias": w.bias(inner),
            f"{at}ssm_a": Tensor(-np.abs(w.matrix(inner, state).values), PLAIN),
            f"{at}ssm_d": w.bias(inner),
            f"{at}ssm_out.weight": w.matrix(N_EMBD, inner),
        }
    keys = tiny.vocab_keys() | {
        "mamba.context_length": (U32, 512),
        "mamba.embedding_length": (U32, N_EMBD),
        "mamba.block_count": (U32, n_layer),
        "mamba.feed_forward_length": (U32, 0),
        "mamba.attention.head_count": (U32, 0),
        "mamba.attention.layer_norm_rms_epsilon": (F32, 1e-6),
        "mamba.ssm.conv_kernel": (U32, SSM_KERNEL),
        "mamba.ssm.inner_size": (U32, inner),
        "mamba.ssm.state_size": (U32, state),
        "mamba.ssm.time_step_rank": (U32, rank),
    }
    return Tiny("mamba", keys, tensors)


def deepseek4(*, seed: int = 8) -> Tiny:
    """DeepSeek-V4: a window, keys compressed by 4 and by 128 behind it, and an indexer that chooses among them."""
    c, w = v4.CONFIG, _Weights(seed)
    n_layer, width, heads, head = c["num_hidden_layers"], v4.HIDDEN, v4.HEADS, v4.HEAD
    streams, experts, expert = v4.STREAMS, v4.EXPERTS, v4.EXPERT
    mixes, indexer, n_indexers = (2 + streams) * streams, c["index_head_dim"], INDEXERS
    tensors = {
        "token_embd.weight": w.matrix(VOCAB, width),
        "output_norm.weight": w.norm(width),
        "output.weight": w.matrix(VOCAB, width),
        "output_hc_fn.weight": w.matrix(streams, streams * width),
        "output_hc_base.weight": w.bias(streams),
        "output_hc_scale.weight": w.bias(1),
    }
    for i, ratio in enumerate(c["compress_ratios"][:n_layer]):
        at = f"blk.{i}."
        tensors |= {
            f"{at}attn_norm.weight": w.norm(width),
            f"{at}attn_sinks.weight": w.bias(heads),
            f"{at}attn_q_a.weight": w.matrix(v4.Q_RANK, width),
            f"{at}attn_q_a_norm.weight": w.norm(v4.Q_RANK),
            f"{at}attn_q_b.weight": w.matrix(heads * head, v4.Q_RANK),
            f"{at}attn_kv.weight": w.matrix(head, width),
            f"{at}attn_kv_a_norm.weight": w.norm(head),
            f"{at}attn_output_a.weight": w.matrix(v4.GROUPS * v4.O_RANK, heads * head // v4.GROUPS),
            f"{at}attn_output_b.weight": w.matrix(width, v4.GROUPS * v4.O_RANK),
            f"{at}ffn_norm.weight": w.norm(width),
            f"{at}ffn_gate_inp.weight": w.matrix(experts, width),
            f"{at}ffn_gate_exps.weight": w.matrix(experts, expert, width),
            f"{at}ffn_up_exps.weight": w.matrix(experts, expert, width),
            f"{at}ffn_down_exps.weight": w.matrix(experts, width, expert),
            f"{at}ffn_gate_shexp.weight": w.matrix(expert, width),
            f"{at}ffn_up_shexp.weight": w.matrix(expert, width),
            f"{at}ffn_down_shexp.weight": w.matrix(width, expert),
        }
        for part in ("attn", "ffn"):
            tensors |= {
                f"{at}hc_{part}_fn.weight": w.matrix(mixes, streams * width),
                f"{at}hc_{part}_base.weight": w.bias(mixes),
                f"{at}hc_{part}_scale.weight": w.bias(3),
            }
        if i < c["num_hash_layers"]:
            table = np.arange(VOCAB * v4.USED, dtype=np.int32).reshape(VOCAB, v4.USED) % experts
            tensors[f"{at}ffn_gate_tid2eid.weight"] = Tensor(table, PLAIN)
        else:
            tensors[f"{at}exp_probs_b.bias"] = w.bias(experts)
        compressors = {4: (("attn", 2 * head, head), ("indexer", 2 * indexer, indexer)), 128: (("attn", head, head),)}
        for part, wide, narrow in compressors.get(ratio, ()):
            tensors |= {
                f"{at}{part}_compressor_kv.weight": w.matrix(wide, width),
                f"{at}{part}_compressor_gate.weight": w.matrix(wide, width),
                f"{at}{part}_compressor_ape.weight": w.matrix(ratio, wide),
                f"{at}{part}_compressor_norm.weight": w.norm(narrow),
            }
        if ratio == 4:
            tensors |= {
                f"{at}indexer.proj.weight": w.matrix(n_indexers, width),
                f"{at}indexer.attn_q_b.weight": w.matrix(n_indexers * indexer, v4.Q_RANK),
            }
    return Tiny("deepseek4", _wider() | _v4_keys(c, n_layer), tensors)


def _v4_keys(c: dict[str, Any], n_layer: int) -> dict[str, Any]:
    rope = c["rope_scaling"]
    keys = {
        "context_length": (U32, 4096),
        "embedding_length": (U32, c["hidden_size"]),
        "block_count": (U32, n_layer),
        "vocab_size": (U32, VOCAB),
        "feed_forward_length": (U32, v4.EXPERT),
        "attention.head_count": (U32, v4.HEADS),
        "attention.head_count_kv": (U32, 1),
        "attention.key_length": (U32, v4.HEAD),
        "attention.value_length": (U32, v4.HEAD),
        "attention.layer_norm_rms_epsilon": (F32, v4.EPS),
        "attention.q_lora_rank": (U32, v4.Q_RANK),
        "attention.output_lora_rank": (U32, v4.O_RANK),
        "attention.output_group_count": (U32, v4.GROUPS),
        "attention.sliding_window": (U32, WINDOW),
        "attention.compress_ratios": Array(I32, c["compress_ratios"][:n_layer]),
        "attention.compress_rope_freq_base": (F32, float(c["compress_rope_theta"])),
        "attention.indexer.head_count": (U32, INDEXERS),
        "attention.indexer.key_length": (U32, c["index_head_dim"]),
        "attention.indexer.top_k": (U32, 8),
        "rope.dimension_count": (U32, v4.ROPE),
        "rope.freq_base": (F32, v4.THETA),
        "rope.scaling.type": (tiny.STR, rope["type"]),
        "rope.scaling.factor": (F32, float(rope["factor"])),
        "rope.scaling.original_context_length": (U32, rope["original_max_position_embeddings"]),
        "rope.scaling.yarn_beta_fast": (F32, float(rope["beta_fast"])),
        "rope.scaling.yarn_beta_slow": (F32, float(rope["beta_slow"])),
        "expert_count": (U32, v4.EXPERTS),
        "expert_used_count": (U32, v4.USED),
        "expert_shared_count": (U32, 1),
        "expert_feed_forward_length": (U32, v4.EXPERT),
        "expert_weights_scale": (F32, v4.SCALE),
        "expert_weights_norm": (BOOL, True),
        "expert_gating_func": (U32, 4),
        "swiglu_clamp_exp": Array(F32, [v4.LIMIT] * n_layer),
        "hash_layer_count": (U32, c["num_hash_layers"]),
        "hyper_connection.count": (U32, v4.STREAMS),
        "hyper_connection.sinkhorn_iterations": (U32, v4.ROUNDS),
        "hyper_connection.epsilon": (F32, 1e-6),
    }
    return {f"deepseek4.{key}": value for key, value in keys.items()}


def _wider() -> dict[str, Any]:
    """The vocabulary of the tiny pairs, filled up to that of tests/convert: the specials last."""
    more = VOCAB - N_VOCAB
    own, at = tiny.vocab_keys(), N_VOCAB - len(tiny.SPECIALS)
    names = [*tiny.tokens()[:at], *(f"filler{i}" for i in range(more)), *tiny.SPECIALS]
    return own | {
        "tokenizer.ggml.tokens": Array(tiny.STR, names),
        "tokenizer.ggml.token_type": Array(I32, [1] * (VOCAB - len(tiny.SPECIALS)) + [3] * len(tiny.SPECIALS)),
        "tokenizer.ggml.eos_token_id": (U32, VOCAB - 3),
        "tokenizer.ggml.bos_token_id": (U32, VOCAB - 2),
    }


TARGETS: dict[str, Callable[[], Tiny]] = {
    "lfm2": lfm2,
    "lfm2moe": lambda: lfm2(moe=True),
    "qwen35": qwen35,
    "deepseek4": deepseek4,
}
