"""A random DeepSeek-V4 DSpark drafter in its published layout, and its function in plain numpy.

Names, shapes, types and config keys are those of deepseek-ai/DeepSeek-V4-Flash-DSpark, scaled down, as llama.cpp's
conversion/deepseek.py reads them and ports of its inference/model.py (DSparkBlock, DSparkAttention, hc_pre, hc_post,
Gate, Expert) quote them. The forward pass reads the bytes that were written, by the formats' own definitions, and never
our converter.
"""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING, Any

import numpy as np

from tests.convert.checkpoints import MASK, random
from tests.convert.configs import CONFIGS, VOCAB

if TYPE_CHECKING:
    from pathlib import Path

    from tests.convert.families import Array, Model

HIDDEN, HEADS, HEAD, ROPE, Q_RANK, O_RANK, GROUPS = 192, 4, 64, 16, 64, 32, 2
EXPERTS, USED, EXPERT, STREAMS, STAGES, BLOCK, RANK, TILE = 6, 2, 160, 4, 3, 4, 32, 128
EPS, ROUNDS, LIMIT, SCALE, THETA = 1e-6, 20, 2.0, 1.5, 10000.0
CONFIG: dict[str, Any] = {
    "architectures": ["DeepseekV4ForCausalLM"],
    "model_type": "deepseek_v4",
    "attention_bias": False,
    "hidden_act": "silu",
    "hidden_size": HIDDEN,
    "vocab_size": VOCAB,
    "num_hidden_layers": 4,
    "num_nextn_predict_layers": 1,
    "num_attention_heads": HEADS,
    "num_key_value_heads": 1,
    "head_dim": HEAD,
    "q_lora_rank": Q_RANK,
    "qk_rope_head_dim": ROPE,
    "o_groups": GROUPS,
    "o_lora_rank": O_RANK,
    "sliding_window": 128,
    "compress_ratios": [0, 0, 4, 128, 0, 0, 0],
    "compress_rope_theta": 160000,
    "index_head_dim": 128,
    "index_n_heads": 64,
    "index_topk": 512,
    "moe_intermediate_size": EXPERT,
    "n_routed_experts": EXPERTS,
    "n_shared_experts": 1,
    "num_experts_per_tok": USED,
    "num_hash_layers": 3,
    "norm_topk_prob": True,
    "routed_scaling_factor": SCALE,
    "scoring_func": "sqrtsoftplus",
    "topk_method": "noaux_tc",
    "swiglu_limit": LIMIT,
    "hc_mult": STREAMS,
    "hc_sinkhorn_iters": ROUNDS,
    "hc_eps": 1e-6,
    "rms_norm_eps": EPS,
    "rope_theta": THETA,
    "rope_scaling": {"type": "yarn", "factor": 16, "beta_fast": 32, "beta_slow": 1,
                     "original_max_position_embeddings": 65536},
    "max_position_embeddings": 1048576,
    "tie_word_embeddings": False,
    "expert_dtype": "fp4",
    "quantization_config": {"quant_method": "fp8", "fmt": "e4m3", "scale_fmt": "ue8m0", "activation_scheme": "dynamic",
                            "weight_block_size": [TILE, TILE]},
    "dspark_block_size": BLOCK,
    "dspark_markov_rank": RANK,
    "dspark_noise_token_id": MASK,
    "dspark_target_layer_ids": [0, 2],
}  # fmt: skip
TARGET = {**CONFIGS["qwen3"], "hidden_size": HIDDEN}  # any target of the width: a drafter sees its taps only
TARGET_SHARD, DRAFT_SHARD = (f"model-0000{i}-of-00002.safetensors" for i in (1, 2))
Stored = dict[str, tuple[str, np.ndarray]]  # safetensors' type, and the bytes in numpy's


def _write(path: Path, tensors: Stored) -> None:
    """One shard, as safetensors lays it down; its library knows no FP8 in numpy."""
    table, at = {}, 0
    for name, (dtype, array) in tensors.items():
        table[name] = {"dtype": dtype, "shape": array.shape, "data_offsets": [at, at + array.nbytes]}
        at += array.nbytes
    head = json.dumps(table).encode()
    path.write_bytes(struct.pack("<Q", len(head)) + head + b"".join(array.tobytes() for _, array in tensors.values()))


def e4m3(byte: int) -> float:
    """OCP's E4M3: sign, exponent with bias 7, fraction; no infinities."""
    exponent, fraction = int(byte) >> 3 & 15, int(byte) & 7
    size = fraction * 2.0**-9 if exponent == 0 else (1 + fraction / 8) * 2.0 ** (exponent - 7)
    return -size if byte & 128 else size


def e2m1(code: int) -> float:
    """OCP's E2M1."""
    return (-1 if code & 8 else 1) * (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)[code & 7]


class Drafter:
    """Stages as they are stored; `fp8` experts, or MXFP4 ones."""

    def __init__(self, *, fp8: bool) -> None:
        self.fp8, self.seed = fp8, 0
        self.lead = np.inf  # of the last expert that was chosen over the first that was not, the least in a block
        self.read: dict[str, Array] = {}
        self.stored: Stored = {}
        self.plain("mtp.0.main_norm.weight", HIDDEN)
        self.codes("mtp.0.main_proj", HIDDEN, 2 * HIDDEN)
        for i in range(STAGES):
            self._stage(f"mtp.{i}.")
        last = f"mtp.{STAGES - 1}."
        self.plain(f"{last}norm.weight", HIDDEN)
        self._streams(f"{last}hc_head", STREAMS, 1)
        self.plain(f"{last}markov_head.markov_w1.weight", VOCAB, RANK)
        self.plain(f"{last}markov_head.markov_w2.weight", VOCAB, RANK)
        self.plain(f"{last}confidence_head.proj.weight", 1, HIDDEN + RANK)
        self.plain("layers.0.attn_norm.weight", HIDDEN)  # the target's own, of which a drafter has nothing
        self.plain("embed.weight", VOCAB, HIDDEN)

    def _stage(self, at: str) -> None:
        for name, width in (
            ("attn_norm", HIDDEN),
            ("ffn_norm", HIDDEN),
            ("attn.q_norm", Q_RANK),
            ("attn.kv_norm", HEAD),
        ):
            self.plain(f"{at}{name}.weight", width)
        self.wide(f"{at}attn.attn_sink", HEADS)
        self.codes(f"{at}attn.wq_a", Q_RANK, HIDDEN)
        self.codes(f"{at}attn.wq_b", HEADS * HEAD, Q_RANK)
        self.codes(f"{at}attn.wkv", HEAD, HIDDEN)
        self.codes(f"{at}attn.wo_a", GROUPS * O_RANK, HEADS * HEAD // GROUPS)
        self.codes(f"{at}attn.wo_b", HIDDEN, GROUPS * O_RANK)
        self._streams(f"{at}hc_attn", (2 + STREAMS) * STREAMS, 3)
        self._streams(f"{at}hc_ffn", (2 + STREAMS) * STREAMS, 3)
        self.plain(f"{at}ffn.gate.weight", EXPERTS, HIDDEN)
        self.wide(f"{at}ffn.gate.bias", EXPERTS)
        self.wide(f"{at}ffn.gate.bias_vl", EXPERTS)
        for name in ("shared_experts", *(f"experts.{e}" for e in range(EXPERTS))):
            put = self.codes if self.fp8 or name == "shared_experts" else self.small
            put(f"{at}ffn.{name}.w1", EXPERT, HIDDEN)
            put(f"{at}ffn.{name}.w2", HIDDEN, EXPERT)
            put(f"{at}ffn.{name}.w3", EXPERT, HIDDEN)

    def _streams(self, at: str, mixes: int, scales: int) -> None:
        self.wide(f"{at}_fn", mixes, STREAMS * HIDDEN)
        self.wide(f"{at}_base", mixes)
        self.wide(f"{at}_scale", scales)

    # -- types of the checkpoint

    def _values(self, name: str, *shape: int) -> np.ndarray:
        self.seed += 1
        values = random(*shape, seed=self.seed)
        if "gate.weight" in name:
            return 4 * values  # type: ignore[no-any-return] # so that which experts are chosen is seldom a tie
        return 1 + values if "norm" in name else values  # type: ignore[no-any-return]

    def wide(self, name: str, *shape: int) -> None:
        self.stored[name] = ("F32", self._values(name, *shape))

    def plain(self, name: str, *shape: int) -> None:
        bits = self._values(name, *shape).view(np.uint32) >> 16
        self.stored[name] = ("BF16", bits.astype(np.uint16))

    def codes(self, module: str, rows: int, columns: int) -> None:
        """E4M3 with an exponent for each tile of 128 by 128; a tile at the edge is smaller."""
        self.seed += 1
        rng = np.random.default_rng(self.seed)
        codes = rng.integers(0, 256, (rows, columns), np.uint8)
        codes[codes & 127 == 127] = 0
        tiles = (-(-rows // TILE), -(-columns // TILE))
        scales = rng.integers(127 - 11, 127 - 8, tiles).astype(np.uint8)
        self.stored |= {f"{module}.weight": ("F8_E4M3", codes), f"{module}.scale": ("F8_E8M0", scales)}

    def small(self, module: str, rows: int, columns: int) -> None:
        """E2M1, two to a byte, with an exponent for 32 inputs."""
        self.seed += 1
        rng = np.random.default_rng(self.seed)
        codes = rng.integers(-128, 128, (rows, columns // 2), np.int8)
        # small, for llama.cpp rounds what meets them to 8 bits
        scales = rng.integers(127 - 8, 127 - 5, (rows, columns // 32)).astype(np.uint8)
        self.stored |= {f"{module}.weight": ("I8", codes), f"{module}.scale": ("F8_E8M0", scales)}

    def write(self, folder: Path, **changes: object) -> Path:
        """The checkpoint's folder: the target's own tensors in a shard of their own, as they are published."""
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps({k: v for k, v in (CONFIG | changes).items() if v is not None}))
        shards: dict[str, Stored] = {}
        for name, stored in self.stored.items():
            shard = DRAFT_SHARD if name.startswith("mtp.") else TARGET_SHARD
            shards.setdefault(shard, {})[name] = stored
        for shard, tensors in shards.items():
            _write(folder / shard, tensors)
        weight_map = {name: shard for shard, tensors in shards.items() for name in tensors}
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
        return folder

    # -- the function

    def w(self, name: str) -> Array:
        """Numbers of a tensor; each is decoded once, byte by byte."""
        if name not in self.read:
            self.read[name] = self._decoded(name)
        return self.read[name]

    def _decoded(self, name: str) -> Array:
        """By its type's definition."""
        dtype, array = self.stored[name]
        if dtype == "BF16":
            return (array.astype(np.uint32) << 16).view(np.float32).astype(np.float64)
        if dtype == "F32":
            return array.astype(np.float64)
        scales = 2.0 ** (self.stored[name.replace(".weight", ".scale")][1].astype(np.float64) - 127)
        if dtype == "F8_E4M3":
            values = np.vectorize(e4m3)(array)
            return values * np.kron(scales, np.ones((TILE, TILE)))[: len(values), : values.shape[1]]  # type: ignore[no-any-return]
        bytes_ = array.view(np.uint8)
        codes = np.stack((bytes_ & 15, bytes_ >> 4), -1).reshape(len(bytes_), -1)
        return np.vectorize(e2m1)(codes) * scales.repeat(32, 1)  # type: ignore[no-any-return]

    def block(self, features: Array, anchor: int, target: Model) -> tuple[list[int], Array, Array]:
        """Tokens, logits [n, vocab] and confidences [n] of the block behind `features` [past, taps · width]."""
        self.lead = np.inf
        main = norm(features @ self.w("mtp.0.main_proj.weight").T) * self.w("mtp.0.main_norm.weight")
        x = np.repeat(target.w("embed_tokens.weight")[[anchor] + [MASK] * (BLOCK - 1)][:, None], STREAMS, 1)
        for i in range(STAGES):
            at = f"mtp.{i}."
            mixed, post, comb = self.taken(x, f"{at}hc_attn")
            out = self.attention(norm(mixed) * self.w(f"{at}attn_norm.weight"), main, at)
            x = given(out, x, post, comb)
            mixed, post, comb = self.taken(x, f"{at}hc_ffn")
            x = given(self.experts(norm(mixed) * self.w(f"{at}ffn_norm.weight"), f"{at}ffn."), x, post, comb)
        last = f"mtp.{STAGES - 1}."
        mixes = norm(x.reshape(BLOCK, -1)) @ self.w(f"{last}hc_head_fn").T
        weights = sigmoid(mixes * self.w(f"{last}hc_head_scale") + self.w(f"{last}hc_head_base")) + 1e-6
        hidden = (weights[..., None] * x).sum(1)
        return self.chain(hidden, norm(hidden) * self.w(f"{last}norm.weight"), anchor, target)

    def taken(self, x: Array, at: str) -> tuple[Array, Array, Array]:
        """What a half of a stage reads of the streams [n, streams, width], and how it is given back."""
        mixes = norm(x.reshape(len(x), -1)) @ self.w(f"{at}_fn").T
        scale, base, n = self.w(f"{at}_scale"), self.w(f"{at}_base"), STREAMS
        pre = sigmoid(mixes[:, :n] * scale[0] + base[:n]) + 1e-6
        post = 2 * sigmoid(mixes[:, n : 2 * n] * scale[1] + base[n : 2 * n])
        comb = (mixes[:, 2 * n :] * scale[2] + base[2 * n :]).reshape(-1, n, n)
        comb = np.exp(comb - comb.max(-1, keepdims=True))
        comb = comb / comb.sum(-1, keepdims=True) + 1e-6
        comb = comb / (comb.sum(-2, keepdims=True) + 1e-6)
        for _ in range(ROUNDS - 1):
            comb = comb / (comb.sum(-1, keepdims=True) + 1e-6)
            comb = comb / (comb.sum(-2, keepdims=True) + 1e-6)
        return (pre[..., None] * x).sum(1), post, comb

    def attention(self, x: Array, main: Array, at: str) -> Array:
        """Latent attention of a block to the target's past and to all of itself, with a sink in the denominator."""
        past, here = np.arange(len(main)), len(main) + np.arange(BLOCK)
        q = norm(x @ self.w(f"{at}attn.wq_a.weight").T) * self.w(f"{at}attn.q_norm.weight")
        q = norm((q @ self.w(f"{at}attn.wq_b.weight").T).reshape(BLOCK, HEADS, HEAD))
        q = turned(q, here[:, None])
        rows = (turned(norm(y @ self.w(f"{at}attn.wkv.weight").T) * self.w(f"{at}attn.kv_norm.weight"), p)
                for y, p in ((main, past), (x, here)))  # fmt: skip
        kv = np.concatenate(list(rows))
        scores = np.einsum("qhd,kd->qhk", q, kv) * HEAD**-0.5
        most = scores.max(-1, keepdims=True)
        weights = np.exp(scores - most)
        sink = np.exp(self.w(f"{at}attn.attn_sink")[None, :, None] - most)
        out = np.einsum("qhk,kd->qhd", weights / (weights.sum(-1, keepdims=True) + sink), kv)
        out = turned(out, -here[:, None]).reshape(BLOCK, GROUPS, -1)
        low = np.einsum("qgd,grd->qgr", out, self.w(f"{at}attn.wo_a.weight").reshape(GROUPS, O_RANK, -1))
        return low.reshape(BLOCK, -1) @ self.w(f"{at}attn.wo_b.weight").T  # type: ignore[no-any-return]

    def experts(self, x: Array, at: str) -> Array:
        """The shared expert, and those that the gate chooses with its bias and weighs without it."""
        scores = np.sqrt(np.log1p(np.exp(x @ self.w(f"{at}gate.weight").T)))
        ranks = scores + self.w(f"{at}gate.bias")
        order = np.argsort(-ranks, -1)
        chosen, behind = order[:, :USED], np.take_along_axis(ranks, order, -1)[:, USED - 1 : USED + 1]
        self.lead = min(self.lead, -np.diff(behind).max())
        out = self.expert(x, f"{at}shared_experts.")
        for row, experts in enumerate(chosen):
            weights = scores[row, experts] / scores[row, experts].sum() * SCALE
            for e, weight in zip(experts, weights, strict=True):
                out[row] += weight * self.expert(x[row : row + 1], f"{at}experts.{e}.")[0]
        return out

    def expert(self, x: Array, at: str) -> Array:
        gate, up = (
            np.minimum(x @ self.w(f"{at}w1.weight").T, LIMIT),
            np.clip(x @ self.w(f"{at}w3.weight").T, -LIMIT, LIMIT),
        )
        return (gate * sigmoid(gate) * up) @ self.w(f"{at}w2.weight").T  # type: ignore[no-any-return]

    def chain(self, hidden: Array, normed: Array, anchor: int, target: Model) -> tuple[list[int], Array, Array]:
        """The Markov head; the confidence reads what is not normed yet."""
        last = f"mtp.{STAGES - 1}."
        w1, w2 = (self.w(f"{last}markov_head.markov_{name}.weight") for name in ("w1", "w2"))
        head = target.w("embed_tokens.weight") if target.tied else target.tensors["lm_head.weight"].astype(np.float64)
        tokens, logits, confidences, previous = [], [], [], anchor
        for raw, row in zip(hidden, normed, strict=True):
            z = self.w(f"{last}confidence_head.proj.weight")[0] @ np.concatenate((raw, w1[previous]))
            line = head @ row + w2 @ w1[previous]
            previous = int(line.argmax())
            tokens.append(previous)
            logits.append(line)
            confidences.append(sigmoid(z))
        return tokens, np.array(logits), np.array(confidences)


def norm(x: Array) -> Array:
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + EPS)  # type: ignore[no-any-return]


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))  # type: ignore[no-any-return]


def given(out: Array, x: Array, post: Array, comb: Array) -> Array:
    """Streams behind a half of a stage: comb mixes them, source first, post spreads what the half puts out."""
    return post[..., None] * out[:, None] + np.einsum("nsd,nsw->ndw", comb, x)  # type: ignore[no-any-return]


def turned(x: Array, positions: Array) -> Array:
    """The last 16 of each row, in pairs side by side."""
    angle = positions[..., None] * THETA ** (-np.arange(0, ROPE, 2) / ROPE)
    a, b = x[..., -ROPE::2], x[..., -ROPE + 1 :: 2]
    pairs = np.stack((a * np.cos(angle) - b * np.sin(angle), b * np.cos(angle) + a * np.sin(angle)), -1)
    return np.concatenate((x[..., :-ROPE], pairs.reshape(*x.shape[:-1], ROPE)), -1)
