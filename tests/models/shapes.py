"""Pairs of random weights at the size of small real models: what they take of memory is real, what they say is not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from gguf import GGMLQuantizationType

from tests.formats import tiny
from tests.formats.tiny import F32, I32, PLAIN, U32, Array, Tensor, Tiny

if TYPE_CHECKING:
    from pathlib import Path

Q4_0, Q8_0, F16 = GGMLQuantizationType.Q4_0, GGMLQuantizationType.Q8_0, GGMLQuantizationType.F16
BLOCKS = {Q4_0: (32, 18), Q8_0: (32, 34), F16: (1, 2)}


@dataclass(frozen=True)
class Size:
    """A qwen3 and its drafter."""

    n_embd: int
    n_layer: int
    n_ff: int
    n_head: int
    n_kv: int
    kind: GGMLQuantizationType = Q4_0
    tied: bool = True
    head_dim: int = 64

    @property
    def taps(self) -> list[int]:
        return [0, self.n_layer // 2, self.n_layer - 1]

    def write(self, folder: Path) -> tuple[Path, Path]:
        return self._target().write(folder / "t.gguf"), self._draft().write(folder / "d.gguf")

    def _target(self) -> Tiny:
        tensors = {
            "token_embd.weight": self._matrix(tiny.N_VOCAB, self.n_embd),
            "output_norm.weight": _norm(self.n_embd),
        }
        if not self.tied:
            tensors["output.weight"] = self._matrix(tiny.N_VOCAB, self.n_embd)
        return Tiny("qwen3", self._keys("qwen3", self.n_layer), tensors | self._layers(self.n_layer))

    def _draft(self) -> Tiny:
        base = tiny.draft()
        tensors = {
            "fc.weight": self._matrix(self.n_embd, len(self.taps) * self.n_embd),
            "enc.output_norm.weight": _norm(self.n_embd),
            "output_norm.weight": _norm(self.n_embd),
            "markov_w1.weight": self._matrix(tiny.N_VOCAB, tiny.RANK),
            "markov_w2.weight": self._matrix(tiny.N_VOCAB, tiny.RANK),
            "conf_proj.weight": self._matrix(1, self.n_embd + tiny.RANK),
            "conf_proj.bias": Tensor(np.zeros(1, np.float32)),
        }
        own = {k: v for k, v in base.keys.items() if k not in tiny.hyper_keys("dflash", 1)}
        keys = own | self._keys("dflash", 2) | {"dflash.target_layers": Array(I32, self.taps)}
        return Tiny("dflash", keys, tensors | self._layers(2))

    def _keys(self, arch: str, n_layer: int) -> dict[str, object]:
        return tiny.vocab_keys() | {
            f"{arch}.context_length": (U32, 1 << 15),
            f"{arch}.embedding_length": (U32, self.n_embd),
            f"{arch}.block_count": (U32, n_layer),
            f"{arch}.feed_forward_length": (U32, self.n_ff),
            f"{arch}.attention.head_count": (U32, self.n_head),
            f"{arch}.attention.head_count_kv": (U32, self.n_kv),
            f"{arch}.attention.key_length": (U32, self.head_dim),
            f"{arch}.attention.value_length": (U32, self.head_dim),
            f"{arch}.attention.layer_norm_rms_epsilon": (F32, 1e-6),
            f"{arch}.rope.freq_base": (F32, 10000.0),
        }

    def _matrix(self, rows: int, width: int) -> Tensor:
        block, nbytes = BLOCKS[self.kind]
        one = np.random.default_rng(rows * width).integers(0, 256, (1, width // block, nbytes), np.uint8)
        one[..., :2] = np.frombuffer(np.float16(0.01).tobytes(), np.uint8)  # a scale that is a number; F16: the value
        return Tensor(np.repeat(one.reshape(1, -1), rows, axis=0), self.kind)

    def _layers(self, n_layer: int) -> dict[str, Tensor]:
        q, kv = self.n_head * self.head_dim, self.n_kv * self.head_dim
        layer = {
            "attn_norm": _norm(self.n_embd),
            "attn_q": self._matrix(q, self.n_embd),
            "attn_k": self._matrix(kv, self.n_embd),
            "attn_v": self._matrix(kv, self.n_embd),
            "attn_output": self._matrix(self.n_embd, q),
            "attn_q_norm": _norm(self.head_dim),
            "attn_k_norm": _norm(self.head_dim),
            "ffn_norm": _norm(self.n_embd),
            "ffn_gate": self._matrix(self.n_ff, self.n_embd),
            "ffn_up": self._matrix(self.n_ff, self.n_embd),
            "ffn_down": self._matrix(self.n_embd, self.n_ff),
        }
        return {f"blk.{i}.{name}.weight": tensor for i in range(n_layer) for name, tensor in layer.items()}


def _norm(width: int) -> Tensor:
    return Tensor(np.ones(width, np.float32), PLAIN)
