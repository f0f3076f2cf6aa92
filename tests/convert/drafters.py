"""Random drafters in every published layout, and their function in plain numpy.

Layouts: DeepSpec's (config.json of deepseek-ai/dspark_qwen3_4b_block7), speculators' exports, LFM2's and Gemma 4's as
llama.cpp's conversion/qwen.py and gemma.py read them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dspark_local.convert import convert_draft, convert_target
from tests.convert import checkpoints
from tests.convert.checkpoints import MASK, random
from tests.convert.configs import CONFIGS, FULL, VOCAB
from tests.convert.families import Array, Model

if TYPE_CHECKING:
    from pathlib import Path

RANK, BLOCK, TAPS = 32, 4, 2
DRAFT_VOCAB = 160
LAYER: dict[str, Any] = {**CONFIGS["qwen3"], "num_hidden_layers": 2, "rope_scaling": None}
DSPARK: dict[str, Any] = {
    "block_size": BLOCK,
    "mask_token_id": MASK,
    "markov_rank": RANK,
    "markov_head_type": "vanilla",
}
DRAFTS: dict[str, tuple[str, dict[str, Any]]] = {  # kind → family of the target, config
    "deepspec": ("qwen3", {**LAYER, **DSPARK, "architectures": ["Qwen3DSparkModel"], "target_layer_ids": [0, 2]}),
    "dflash": (  # deepseek-ai/dflash_qwen3_4b_block7: DeepSpec's DFlash is its DSpark without the heads
        "qwen3",
        {
            **LAYER,
            "architectures": ["Qwen3DSparkModel"],
            "block_size": BLOCK,
            "mask_token_id": MASK,
            "target_layer_ids": [0, 2],
            "enable_confidence_head": False,
            "markov_rank": 0,
        },
    ),
    "speculators": (
        "qwen3",
        {
            **DSPARK,
            "architectures": ["DSparkDraftModel"],
            "speculators_model_type": "dspark",
            "aux_hidden_state_layer_ids": [1, 3],
            "draft_vocab_size": DRAFT_VOCAB,
            "transformer_layer_config": {k: v for k, v in LAYER.items() if k != "architectures"},
        },
    ),
    "lfm2": (
        "qwen3",
        {
            **LAYER,
            "architectures": ["Lfm2DSparkDraftModel"],
            "dflash_config": {"target_layer_ids": [0, 2], "mask_token_id": MASK, "block_size": BLOCK},
            "markov_rank": RANK,
            "rope_is_neox_style": False,
        },
    ),
    "gemma4": (
        "gemma4",
        {
            **CONFIGS["gemma4"]["text_config"],
            **DSPARK,
            "architectures": ["Gemma4DSparkModel"],
            "num_hidden_layers": 2,
            "layer_types": [FULL, FULL],
            "target_layer_ids": [0, 2],
            "final_logit_softcapping": None,
            "tie_word_embeddings": False,
        },
    ),
}


class Draft(Model):
    """A drafter's tensors and its function, over the layers of Model."""

    def __init__(self, kind: str, config: dict[str, Any]) -> None:
        layer = config.get("transformer_layer_config", {})
        super().__init__("gemma4" if kind == "gemma4" else "qwen3", {**config, **layer})
        self.published = config
        for name in ("embed_tokens.weight", "lm_head.weight"):
            self.tensors.pop(name, None)
        rows = config.get("draft_vocab_size", VOCAB)
        self.tensors |= {
            "fc.weight": random(self.hidden, TAPS * self.hidden, seed=4),
            "hidden_norm.weight": np.ones(self.hidden, np.float32) + random(self.hidden, seed=5) / 4,
        }
        if config.get("markov_rank"):
            self.tensors |= {
                "markov_head.markov_w1.weight": random(VOCAB, RANK, seed=7),
                "markov_head.markov_w2.weight": random(rows, RANK, seed=8),
                "confidence_head.proj.weight": random(1, self.hidden + RANK, seed=9),
                "confidence_head.proj.bias": random(1, seed=10),
            }
        if rows < VOCAB:
            ids = np.sort(np.random.default_rng(1).permutation(VOCAB)[:rows])
            reach = np.zeros(VOCAB, bool)
            reach[ids] = True
            head = random(rows, self.hidden, seed=11)
            self.tensors |= {"lm_head.weight": head, "d2t": ids - np.arange(rows), "t2d": reach}

    def name(self, bare: str) -> str:
        return bare

    def turned(self, x: Array, i: int, positions: Array) -> Array:
        """Rotary positions, of pairs half a head apart or side by side."""
        f, _ = self.frequencies(i)
        angle = positions[:, None] * f
        cos, sin = np.cos(angle)[:, None], np.sin(angle)[:, None]
        if self.published.get("rope_is_neox_style", True):
            a, b = x[..., : len(f)], x[..., len(f) :]
            return np.concatenate((a * cos - b * sin, b * cos + a * sin), -1)
        a, b = x[..., 0::2], x[..., 1::2]
        return np.stack((a * cos - b * sin, b * cos + a * sin), -1).reshape(x.shape)

    def keys(self, x: Array, i: int, at: Array) -> tuple[Array, Array]:
        k = self.project(x, i, "k").reshape(len(x), -1, self.head(i))
        v = self.project(x, i, "v").reshape(k.shape) if self.has(f"layers.{i}.self_attn.v_proj.weight") else k
        k = self.turned(self.norm(k, f"layers.{i}.self_attn.k_norm.weight"), i, at)
        return k, self.plain_norm(v) if self.gemma4 else v

    def mixed(self, normed: Array, context: Array, i: int) -> Array:
        """Attention of a block to itself and to all before it."""
        past, at = np.arange(len(context)), len(context) + np.arange(BLOCK)
        q = self.project(normed, i, "q").reshape(BLOCK, -1, self.head(i))
        q = self.turned(self.norm(q, f"layers.{i}.self_attn.q_norm.weight"), i, at)
        pairs = zip(self.keys(context, i, past), self.keys(normed, i, at), strict=True)
        k, v = (np.repeat(np.concatenate(pair), q.shape[1] // pair[0].shape[1], 1) for pair in pairs)
        scores = np.einsum("qhd,khd->hqk", q, k) * (1 if self.gemma4 else self.head(i) ** -0.5)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        return self.project(np.einsum("hqk,khd->qhd", weights, v).reshape(BLOCK, -1), i, "o")

    def block(self, features: Array, anchor: int, target: Model) -> tuple[list[int], Array, Array]:
        """Tokens, logits [n, vocab] and confidences [n] of the block behind `features` [past, taps · width]."""
        context = self.norm(features @ self.w("fc.weight").T, "hidden_norm.weight")
        x = target.w("embed_tokens.weight")[[anchor] + [MASK] * (BLOCK - 1)] * (self.hidden**0.5 if self.gemma4 else 1)
        for i in range(self.layers):
            n = f"layers.{i}."
            a = self.mixed(self.norm(x, f"{n}input_layernorm.weight"), context, i)
            if self.gemma4:
                x = x + self.norm(a, f"{n}post_attention_layernorm.weight")
                f = self.ffn(self.norm(x, f"{n}pre_feedforward_layernorm.weight"), i)
                x = (x + self.norm(f, f"{n}post_feedforward_layernorm.weight")) * self.w(f"{n}layer_scalar")
            else:
                x = x + a
                x = x + self.ffn(self.norm(x, f"{n}post_attention_layernorm.weight"), i)
        return self.chain(self.norm(x, "norm.weight"), anchor, target)

    def chain(self, hidden: Array, anchor: int, target: Model) -> tuple[list[int], Array, Array]:
        head = target.w("embed_tokens.weight") if target.tied else target.tensors["lm_head.weight"].astype(np.float64)
        ids = np.arange(VOCAB)
        if "d2t" in self.tensors:
            head = self.w("lm_head.weight")
            ids = self.tensors["d2t"] + np.arange(len(head))
        tokens, logits, confidences, previous = [], [], [], anchor
        begins_with_a_draft = "aux_hidden_state_layer_ids" not in self.published
        for row in hidden if begins_with_a_draft else hidden[1:]:
            line = np.full(VOCAB, -np.inf)
            line[ids] = head @ row
            if "markov_head.markov_w1.weight" in self.tensors:
                w1 = self.w("markov_head.markov_w1.weight")[previous]
                line[ids] += self.w("markov_head.markov_w2.weight") @ w1
                z = self.w("confidence_head.proj.weight")[0] @ np.concatenate((row, w1))
                confidences.append(1 / (1 + np.exp(-(z + self.w("confidence_head.proj.bias").item()))))
            previous = int(line.argmax())
            tokens.append(previous)
            logits.append(line)
        return tokens, np.array(logits), np.array(confidences)


def pair(folder: Path, kind: str) -> tuple[Model, Draft, Path, Path]:
    """Target and drafter, and their files in F16."""
    family, config = DRAFTS[kind]
    target, draft = Model(family, CONFIGS[family]), Draft(kind, config)
    src = target.write(folder / "T")
    checkpoints.write(folder / "D", config, draft.tensors, tokenized=False)
    path = convert_target(src, folder / "T-F16.gguf", type="F16")
    return target, draft, path, convert_draft(folder / "D", src, folder / "dspark-T-F16.gguf", type="F16")
