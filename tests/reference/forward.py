"""Target and drafter in plain numpy, after the paper [P §3.1, §3.2] and the published modelling code; no llama.cpp.

Weights come from a GGUF, dequantised; activations are float64, so differences are llama.cpp's own rounding.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from dspark_local.formats.dflash import read_draft_spec

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dspark_local.formats.gguf import GGUF

Array = npt.NDArray[np.float64]


def _greedy(logits: Array, _k: int) -> int:
    return int(np.argmax(logits))


@dataclass
class Transformer:
    """Layers of the Qwen3 kind: grouped queries, normed heads, rotary positions, SwiGLU."""

    file: GGUF

    def __post_init__(self) -> None:
        self.heads = self.number("attention.head_count")
        self.kv_heads = self.number("attention.head_count_kv")
        self.head_dim = self.number("attention.key_length")
        self.n_layer = self.number("block_count")
        self.eps = float(self.file.meta(f"{self.file.arch}.attention.layer_norm_rms_epsilon"))  # type: ignore[arg-type]
        self.theta = float(self.file.meta(f"{self.file.arch}.rope.freq_base"))  # type: ignore[arg-type]
        self._weights: dict[str, Array] = {}

    def number(self, key: str) -> int:
        return int(self.file.meta(f"{self.file.arch}.{key}"))  # type: ignore[call-overload]

    def w(self, name: str) -> Array:
        if name not in self._weights:
            values = self.file.rows(f"{name}.weight", slice(None)).astype(np.float64)
            self._weights[name] = values[0] if values.shape[0] == 1 and "norm" in name else values
        return self._weights[name]

    def norm(self, x: Array, name: str) -> Array:
        scaled: Array = x / np.sqrt((x**2).mean(-1, keepdims=True) + self.eps) * self.w(name).reshape(-1)
        return scaled

    def rope(self, x: Array, positions: Array) -> Array:
        """Rotate pairs (i, i + d/2) of [n, heads, d] by position · θ^(−2i/d)."""
        half = self.head_dim // 2
        angle = positions[:, None] * self.theta ** (-np.arange(half) / half)
        cos, sin = np.cos(angle)[:, None], np.sin(angle)[:, None]
        a, b = x[..., :half], x[..., half:]
        return np.concatenate((a * cos - b * sin, b * cos + a * sin), -1)

    def keys_values(self, x: Array, positions: Array, i: int) -> tuple[Array, Array]:
        k = (x @ self.w(f"blk.{i}.attn_k").T).reshape(len(x), self.kv_heads, self.head_dim)
        v = (x @ self.w(f"blk.{i}.attn_v").T).reshape(len(x), self.kv_heads, self.head_dim)
        return self.rope(self.norm(k, f"blk.{i}.attn_k_norm"), positions), v

    def attention(self, x: Array, positions: Array, k: Array, v: Array, mask: Array, i: int) -> Array:
        q = (x @ self.w(f"blk.{i}.attn_q").T).reshape(len(x), self.heads, self.head_dim)
        q = self.rope(self.norm(q, f"blk.{i}.attn_q_norm"), positions)
        group = self.heads // self.kv_heads
        scores = np.einsum("qhd,khd->hqk", q, np.repeat(k, group, 1)) / np.sqrt(self.head_dim) + mask
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        mixed = np.einsum("hqk,khd->qhd", weights, np.repeat(v, group, 1)).reshape(len(x), -1)
        return mixed @ self.w(f"blk.{i}.attn_output").T  # type: ignore[no-any-return]

    def ffn(self, x: Array, i: int) -> Array:
        gate, up = x @ self.w(f"blk.{i}.ffn_gate").T, x @ self.w(f"blk.{i}.ffn_up").T
        return (gate / (1 + np.exp(-gate)) * up) @ self.w(f"blk.{i}.ffn_down").T  # type: ignore[no-any-return]


class TargetReference(Transformer):
    """A Qwen3 target."""

    def forward(self, tokens: Sequence[int]) -> tuple[list[Array], Array]:
        """Inputs of every layer, each [n, width], and logits [n, n_vocab]."""
        x, positions = self.w("token_embd")[list(tokens)], np.arange(len(tokens), dtype=np.float64)
        mask = np.triu(np.full((len(tokens), len(tokens)), -np.inf), 1)
        inputs = []
        for i in range(self.n_layer):
            inputs.append(x)
            normed = self.norm(x, f"blk.{i}.attn_norm")
            k, v = self.keys_values(normed, positions, i)
            x = x + self.attention(normed, positions, k, v, mask, i)
            x = x + self.ffn(self.norm(x, f"blk.{i}.ffn_norm"), i)
        return inputs, self.norm(x, "output_norm") @ self.head.T

    @cached_property
    def head(self) -> Array:
        return self.w("output" if "output.weight" in self.file.tensors else "token_embd")


class DraftReference(Transformer):
    """A DSpark drafter: fused features as context, a block of masks, Markov and confidence heads [P §3.1, §3.2]."""

    def __init__(self, file: GGUF, target: TargetReference) -> None:
        super().__init__(file)
        self.spec = read_draft_spec(file)
        self.embedding = self.w("token_embd") if self.spec.owns_embedding else target.w("token_embd")
        self.head = self.w("output") if self.spec.owns_head else target.head

    def draft(
        self, features: Array, anchor: int, gamma: int, pick: Callable[[Array, int], int] = _greedy
    ) -> tuple[list[int], Array, Array]:
        """Tokens [γ], biased logits [γ, n_vocab] and confidences [γ] after features [n, taps · width].

        `pick(logits, k)` chooses the token of row k, on which the next row is based.
        """
        hidden = self.block(features, anchor, gamma)
        return self._chain(hidden, hidden @ self.head.T, anchor, pick)

    def block(self, features: Array, anchor: int, rows: int) -> Array:
        """Hidden states [rows, width] of the anchor and masks behind it."""
        n = len(features)
        context = self.norm(features @ self.w("fc").T, "enc.output_norm")
        positions = np.arange(n, n + rows, dtype=np.float64)
        x = self.embedding[[anchor] + [self.spec.mask_token] * (rows - 1)]
        for i in range(self.n_layer):
            normed = self.norm(x, f"blk.{i}.attn_norm")
            around = self.around(normed, f"blk.{i}.attn")
            inner = around(normed, 0)
            k, v = self.keys_values(inner, positions, i)
            past_k, past_v = self.keys_values(context, np.arange(n, dtype=np.float64), i)
            k, v = np.concatenate((past_k, k)), np.concatenate((past_v, v))
            x = x + around(self.attention(inner, positions, k, v, np.zeros((rows, n + rows)), i), 1)
            normed = self.norm(x, f"blk.{i}.ffn_norm")
            around = self.around(normed, f"blk.{i}.ffn")
            x = x + around(self.ffn(around(normed, 0), i), 1)
        return self.norm(x, "output_norm")

    def around(self, normed: Array, part: str) -> Callable[[Array, int], Array]:  # noqa: ARG002 - DFlash 2's
        """What is done to a part's input (side 0) and output (1): nothing."""
        return lambda x, _side: x

    def _chain(
        self, hidden: Array, logits: Array, anchor: int, pick: Callable[[Array, int], int]
    ) -> tuple[list[int], Array, Array]:
        tokens, confidences, previous = [], [], anchor
        conf, bias = (
            self.w("conf_proj").reshape(-1),
            float(self.file.rows("conf_proj.bias", slice(None)).reshape(-1)[0]),
        )
        for k in range(len(logits)):
            w1 = self.w("markov_w1")[previous]
            logits[k] += self.w("markov_w2") @ w1
            z = conf @ np.concatenate((hidden[k], w1)) + bias
            confidences.append(1 / (1 + np.exp(-z)))
            previous = pick(logits[k], k)
            tokens.append(previous)
        return tokens, logits, np.array(confidences)


class DFlashReference(DraftReference):
    """DFlash: row k + 1 of a block is token k. The second version convolves along the block and has a selector.

    After llama.cpp's src/models/dflash.cpp, for there is no paper of the second.
    """

    def draft(
        self, features: Array, anchor: int, gamma: int, pick: Callable[[Array, int], int] = _greedy
    ) -> tuple[list[int], Array, Array]:
        """Tokens [γ], what each was picked from [γ, n_vocab] (−inf: no candidate), the share that it has there."""
        hidden = self.block(features, anchor, gamma + 1)
        logits = (hidden @ self.head.T)[1:]
        tokens: list[int] = []
        for k in range(gamma):
            if self.spec.selector:
                before = tokens[-1] if tokens else anchor
                logits[k] = self._selected(logits[k], hidden[k + 1], before)
            tokens.append(pick(logits[k], k))
        shares = np.exp(logits - logits.max(-1, keepdims=True))
        shares /= shares.sum(-1, keepdims=True)
        return tokens, logits, shares[np.arange(gamma), tokens]

    def _selected(self, logits: Array, hidden: Array, before: int) -> Array:
        """logit(c) + Σ_r successor[c, r] · predecessor[before, r] · (selector · hidden)[r] for the k likeliest c."""
        ids = np.argpartition(logits, -self.spec.selector)[-self.spec.selector :]
        gate = self.w("selector_hidden") @ hidden
        scores = np.full_like(logits, -np.inf)
        scores[ids] = logits[ids] + self.w("selector_successor")[ids] @ (self.w("selector_predecessor")[before] * gate)
        return scores

    def around(self, normed: Array, part: str) -> Callable[[Array, int], Array]:
        """Causal convolution along the block, its weights a base and what a projection of `normed` adds by group."""
        if f"{part}_conv_base" not in self.file.tensors:
            return super().around(normed, part)
        n, width = normed.shape
        size, kernel = self.number("conv_group_size"), self.number("conv_kernel_size")
        base = self.file.rows(f"{part}_conv_base", slice(None)).reshape(2, kernel, width).astype(np.float64)
        added = (normed @ self.w(f"{part}_conv_proj").T).reshape(n, 2, kernel, width // size)
        weights = np.repeat(added, size, axis=-1) + base

        def convolved(x: Array, side: int) -> Array:
            total = np.zeros_like(x)
            for tap in range(min(kernel, n)):
                total[tap:] += weights[tap:, side, tap] * x[: n - tap]
            return total

        return convolved
