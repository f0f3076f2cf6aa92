"""Random checkpoints of every family in its published layout, and the functions that they are, in plain numpy.

Names, shapes and config keys are those of transformers' modelling code (modeling_llama, _mistral, _qwen2, _qwen3,
_gemma2, _gemma3, _gemma4) and of the config.json of the models named below, scaled down. The forward pass reads the
checkpoint's own tensors and never our converter's, so that a permutation, a shift or a scale that is wrong shows.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tests.convert.checkpoints import random, write
from tests.convert.configs import FULL, SLIDING, VOCAB, WINDOW

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Array = npt.NDArray[np.float64]


@dataclass
class Model:
    """A checkpoint and its function. `text` is the part of the config that speaks of the text model."""

    family: str
    config: dict[str, Any]
    tensors: dict[str, np.ndarray] = field(default_factory=dict)
    steps: dict[str, Array] = field(default_factory=dict)  # of weights that are codes
    inputs: list[Array] = field(default_factory=list)  # of each layer [n, hidden], in the last forward pass

    def __post_init__(self) -> None:
        self.text: dict[str, Any] = {**self.config, **self.config.get("text_config", {})}
        self.gemma = self.family.startswith("gemma")
        self.gemma4 = self.family.startswith("gemma4")
        self.hidden, self.ffn_width = self.text["hidden_size"], self.text["intermediate_size"]
        self.vocab = self.text.get("vocab_size", VOCAB)
        self.layers = self.text["num_hidden_layers"]
        self.tied = self.text.get("tie_word_embeddings", self.gemma)
        self.types = self.text.get("layer_types") or [FULL if self._full(i) else SLIDING for i in range(self.layers)]
        self._fill()

    def _full(self, i: int) -> bool:
        period = {"gemma2": 2, "gemma3": 6}.get(self.family)
        return period is None or (i + 1) % period == 0

    # -- sizes of a layer

    def head(self, i: int) -> int:
        own = self.text.get("head_dim", self.hidden // self.text["num_attention_heads"])
        return self.text["global_head_dim"] if self.gemma4 and self.types[i] == FULL else own

    def kv_heads(self, i: int) -> int:
        own = self.text["num_key_value_heads"]
        return self.text.get("num_global_key_value_heads", own) if self.gemma4 and self.types[i] == FULL else own

    def shares(self, i: int) -> bool:
        return i >= self.layers - self.text.get("num_kv_shared_layers", 0)

    # -- weights

    def _fill(self) -> None:  # noqa: C901, PLR0912 - every published layout in one place
        self.put("embed_tokens.weight", self.vocab, self.hidden)
        self.put("norm.weight", self.hidden)
        if not self.tied:
            self.tensors["lm_head.weight"] = random(self.vocab, self.hidden, seed=77)
        per_layer = self.text.get("hidden_size_per_layer_input") or 0
        if per_layer:
            self.put("embed_tokens_per_layer.weight", self.vocab, per_layer * self.layers)
            self.put("per_layer_model_projection.weight", per_layer * self.layers, self.hidden)
            self.put("per_layer_projection_norm.weight", per_layer)
        biased = self.family == "qwen2" or self.text.get("attention_bias")
        for i in range(self.layers):
            q, kv = self.head(i) * self.text["num_attention_heads"], self.head(i) * self.kv_heads(i)
            wide = self.shares(i) and self.text.get("use_double_wide_mlp", False)
            ffn = self.ffn_width * (2 if wide else 1)
            projections = {"q": (q, self.hidden), "k": (kv, self.hidden), "v": (kv, self.hidden), "o": (self.hidden, q)}
            if self.gemma4 and self.shares(i):
                del projections["k"], projections["v"]
            if self.text.get("attention_k_eq_v") and self.types[i] == FULL:
                del projections["v"]
            for name, shape in projections.items():
                self.put(f"layers.{i}.self_attn.{name}_proj.weight", *shape)
                if biased and (name != "o" or self.family != "qwen2"):
                    self.put(f"layers.{i}.self_attn.{name}_proj.bias", shape[0])
            if self.family.startswith(("qwen3", "gemma3", "gemma4")):
                self.put(f"layers.{i}.self_attn.q_norm.weight", self.head(i))
                if "k" in projections:
                    self.put(f"layers.{i}.self_attn.k_norm.weight", self.head(i))
            norms = ["input_layernorm", "post_attention_layernorm"]
            if self.gemma:
                norms += ["pre_feedforward_layernorm", "post_feedforward_layernorm"]
            for name in norms:
                self.put(f"layers.{i}.{name}.weight", self.hidden)
            self.put(f"layers.{i}.mlp.gate_proj.weight", ffn, self.hidden)
            self.put(f"layers.{i}.mlp.up_proj.weight", ffn, self.hidden)
            self.put(f"layers.{i}.mlp.down_proj.weight", self.hidden, ffn)
            if self.gemma4:
                self.tensors[self.name(f"layers.{i}.layer_scalar")] = np.array([0.5 + i / 10], np.float32)
            if per_layer:
                self.put(f"layers.{i}.per_layer_input_gate.weight", per_layer, self.hidden)
                self.put(f"layers.{i}.per_layer_projection.weight", self.hidden, per_layer)
                self.put(f"layers.{i}.post_per_layer_input_norm.weight", self.hidden)

    def name(self, bare: str) -> str:
        """The published name: text models beside a vision tower stand one level deeper."""
        if bare.startswith("lm_head"):
            return bare
        prefix = {"gemma3": "language_model.model.", "gemma4": "model.language_model."}
        nested = "text_config" in self.config
        return (prefix[self.family.split("-")[0]] if nested else "model.") + bare

    def put(self, bare: str, *shape: int) -> None:
        values = random(*shape, seed=len(self.tensors))
        if "norm" in bare:
            values = values / np.abs(values).max() * np.float32(0.5) + np.float32(
                0 if self.gemma and not self.gemma4 else 1
            )
        if self.gemma4 and bare.endswith("q_norm.weight"):
            values = values / np.float32(shape[0] ** 0.5)  # its scores are not divided by anything else
        self.tensors[self.name(bare)] = values.astype(np.float16).astype(np.float32)  # what F16 holds

    def w(self, bare: str) -> Array:
        return self.tensors[self.name(bare)].astype(np.float64)

    def has(self, bare: str) -> bool:
        return self.name(bare) in self.tensors

    def write(self, folder: Path) -> Path:
        return write(folder, self.config, self.tensors)

    # -- the function

    def norm(self, x: Array, bare: str) -> Array:
        weight = self.w(bare) + (1 if self.gemma and not self.gemma4 else 0)
        return self.plain_norm(x) * weight

    def plain_norm(self, x: Array) -> Array:
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + self.text.get("rms_norm_eps", 1e-6))  # type: ignore[no-any-return]

    def project(self, x: Array, i: int, name: str) -> Array:
        bare = f"layers.{i}.self_attn.{name}_proj"
        out = x @ self.w(f"{bare}.weight").T
        return out + self.w(f"{bare}.bias") if self.has(f"{bare}.bias") else out  # type: ignore[no-any-return]

    def frequencies(self, i: int) -> tuple[Array, float]:
        """Angle per position of each pair, and the factor on cosine and sine (YaRN's)."""
        half = self.head(i) // 2
        parameters = self.text.get("rope_parameters", {}).get(self.types[i])
        sliding = self.types[i] == SLIDING and self.family != "gemma2"
        if parameters is None:
            theta = 10000.0 if sliding else self.text.get("rope_theta", 1000000.0)
            parameters = {} if sliding else self.text.get("rope_scaling") or {}
        else:
            theta = parameters["rope_theta"]
        f = theta ** (-np.arange(half) / half)
        match parameters.get("rope_type", "default"):
            case "default":
                return f, 1.0
            case "linear":
                return f / parameters["factor"], 1.0
            case "proportional":
                turned = int(self.head(i) * parameters["partial_rotary_factor"]) // 2
                return np.where(np.arange(half) < turned, f, 0.0), 1.0
            case "llama3":
                return _llama3(f, parameters), 1.0
            case "yarn":
                return _yarn(f, theta, self.head(i), parameters)
            case kind:
                raise AssertionError(kind)

    def rope(self, x: Array, i: int) -> Array:
        """Rotate pairs (j, j + head/2) of [n, heads, head]: rotate_half of transformers."""
        half = x.shape[-1] // 2
        f, scale = self.frequencies(i)
        angle = np.arange(len(x))[:, None] * f
        cos, sin = scale * np.cos(angle)[:, None], scale * np.sin(angle)[:, None]
        a, b = x[..., :half], x[..., half:]
        return np.concatenate((a * cos - b * sin, b * cos + a * sin), -1)

    def attention(self, x: Array, i: int, kept: dict[str, tuple[Array, Array]]) -> Array:
        n, head = len(x), self.head(i)
        q = self.project(x, i, "q").reshape(n, -1, head)
        if self.has(f"layers.{i}.self_attn.q_norm.weight"):
            q = self.norm(q, f"layers.{i}.self_attn.q_norm.weight")
        q = self.rope(q, i)
        if self.has(f"layers.{i}.self_attn.k_proj.weight"):
            k = self.project(x, i, "k").reshape(n, -1, head)
            v = self.project(x, i, "v").reshape(n, -1, head) if self.has(f"layers.{i}.self_attn.v_proj.weight") else k
            if self.has(f"layers.{i}.self_attn.k_norm.weight"):
                k = self.norm(k, f"layers.{i}.self_attn.k_norm.weight")
            k, v = self.rope(k, i), self.plain_norm(v) if self.gemma4 else v
            kept[self.types[i]] = (k, v)
        k, v = kept[self.types[i]]
        group = q.shape[1] // k.shape[1]
        scores = np.einsum("qhd,khd->hqk", q, np.repeat(k, group, 1)) * (1.0 if self.gemma4 else head**-0.5)
        if cap := self.text.get("attn_logit_softcapping"):
            scores = np.tanh(scores / cap) * cap
        behind = np.arange(n)[:, None] - np.arange(n)
        hidden = (behind < 0) | ((behind >= WINDOW) & (self.types[i] == SLIDING))
        scores = np.where(hidden, -np.inf, scores)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        mixed = np.einsum("hqk,khd->qhd", weights, np.repeat(v, group, 1)).reshape(n, -1)
        return self.project(mixed, i, "o")

    def ffn(self, x: Array, i: int) -> Array:
        act: Callable[[Array], Array] = gelu if self.gemma else lambda g: g / (1 + np.exp(-g))
        gate, up = (x @ self.w(f"layers.{i}.mlp.{name}_proj.weight").T for name in ("gate", "up"))
        return (act(gate) * up) @ self.w(f"layers.{i}.mlp.down_proj.weight").T  # type: ignore[no-any-return]

    def forward(self, tokens: list[int]) -> Array:
        """Logits [n, vocab]."""
        x = self.w("embed_tokens.weight")[tokens] * (self.hidden**0.5 if self.gemma else 1)
        extra = self.per_layer(tokens, x)
        kept: dict[str, tuple[Array, Array]] = {}
        self.inputs = []
        for i in range(self.layers):
            self.inputs.append(x)
            n = f"layers.{i}."
            a = self.attention(self.norm(x, f"{n}input_layernorm.weight"), i, kept)
            if self.gemma:
                x = x + self.norm(a, f"{n}post_attention_layernorm.weight")
                f = self.ffn(self.norm(x, f"{n}pre_feedforward_layernorm.weight"), i)
                x = x + self.norm(f, f"{n}post_feedforward_layernorm.weight")
            else:
                x = x + a
                x = x + self.ffn(self.norm(x, f"{n}post_attention_layernorm.weight"), i)
            if extra is not None:
                gated = gelu(x @ self.w(f"{n}per_layer_input_gate.weight").T) * extra[:, i]
                x = x + self.norm(
                    gated @ self.w(f"{n}per_layer_projection.weight").T, f"{n}post_per_layer_input_norm.weight"
                )
            if self.gemma4:
                x = x * self.w(f"{n}layer_scalar")
        head = self.w("embed_tokens.weight") if self.tied else self.tensors["lm_head.weight"].astype(np.float64)
        logits = self.norm(x, "norm.weight") @ head.T
        cap = self.text.get("final_logit_softcapping")
        return np.tanh(logits / cap) * cap if cap else logits

    def per_layer(self, tokens: list[int], x: Array) -> Array | None:
        """Gemma 4's second embedding, [n, layers, width]."""
        width = self.text.get("hidden_size_per_layer_input")
        if not width:
            return None
        own = self.w("embed_tokens_per_layer.weight")[tokens].reshape(len(tokens), self.layers, width) * width**0.5
        projected = (x @ self.w("per_layer_model_projection.weight").T * self.hidden**-0.5).reshape(own.shape)
        return (self.norm(projected, "per_layer_projection_norm.weight") + own) * 2**-0.5  # type: ignore[no-any-return]


def gelu(x: Array) -> Array:
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))  # type: ignore[no-any-return]


def _llama3(f: Array, p: dict[str, Any]) -> Array:
    """modeling_rope_utils._compute_llama3_parameters, frequency by frequency."""
    out = []
    for value in f:
        wavelength = 2 * np.pi / value
        if wavelength < p["original_max_position_embeddings"] / p["high_freq_factor"]:
            out.append(value)
        elif wavelength > p["original_max_position_embeddings"] / p["low_freq_factor"]:
            out.append(value / p["factor"])
        else:
            turns = p["original_max_position_embeddings"] / wavelength
            smooth = (turns - p["low_freq_factor"]) / (p["high_freq_factor"] - p["low_freq_factor"])
            out.append((1 - smooth) * value / p["factor"] + smooth * value)
    return np.array(out)


def _yarn(f: Array, theta: float, head: int, p: dict[str, Any]) -> tuple[Array, float]:
    """modeling_rope_utils._compute_yarn_parameters with its defaults: beta 32 and 1."""

    def dimension(turns: float) -> float:
        return head * np.log(p["original_max_position_embeddings"] / (turns * 2 * np.pi)) / (2 * np.log(theta))  # type: ignore[no-any-return]

    low, high = max(np.floor(dimension(32)), 0), min(np.ceil(dimension(1)), head - 1)
    ramp = np.clip((np.arange(head // 2) - low) / max(high - low, 0.001), 0, 1)
    return f / p["factor"] * ramp + f * (1 - ramp), 0.1 * np.log(p["factor"]) + 1
