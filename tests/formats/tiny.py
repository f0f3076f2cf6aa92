"""Tiny pairs of random weights, written with the gguf package, as dictionaries that a test can bend first."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from gguf import GGMLQuantizationType, GGUFValueType, GGUFWriter
from gguf.quants import quantize

if TYPE_CHECKING:
    from pathlib import Path

U16, U32, I32, F32 = GGUFValueType.UINT16, GGUFValueType.UINT32, GGUFValueType.INT32, GGUFValueType.FLOAT32
STR, BOOL = GGUFValueType.STRING, GGUFValueType.BOOL
Q4_0, Q8_0 = GGMLQuantizationType.Q4_0, GGMLQuantizationType.Q8_0
F16, PLAIN = GGMLQuantizationType.F16, GGMLQuantizationType.F32

N_EMBD, HEAD_DIM, N_HEAD, N_KV, N_FF, N_LAYER = 64, 32, 2, 1, 96, 2
RANK, BLOCK = 32, 4
SPECIALS = ("<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|mask|>")


@dataclass(frozen=True)
class Array:
    """An array value with the type of its elements."""

    kind: GGUFValueType
    values: list[Any]


@dataclass(frozen=True)
class Tensor:
    """Values in numpy order (rows first), and the type to store them in; bytes are stored as they are."""

    values: np.ndarray
    kind: GGMLQuantizationType = PLAIN


@dataclass(frozen=True)
class Tiny:
    """A file about to be written: keys with their types, tensors by name."""

    arch: str
    keys: dict[str, tuple[GGUFValueType, Any] | Array]
    tensors: dict[str, Tensor] = field(default_factory=dict)

    def with_keys(self, **changes: tuple[GGUFValueType, Any] | Array | None) -> Tiny:
        """Keys changed, or dropped where None; `_` before the first word stands for the architecture."""
        keys = dict(self.keys)
        for name, value in changes.items():
            key = name.replace("__", ".")
            if value is None:
                del keys[key]
            else:
                keys[key] = value
        return replace(self, keys=keys)

    def with_tensors(self, changes: dict[str, Tensor | None]) -> Tiny:
        tensors = {name: t for name, t in self.tensors.items() if changes.get(name, t) is not None}
        return replace(self, tensors=tensors | {name: t for name, t in changes.items() if t is not None})

    def encoded(self) -> Tiny:
        """Quantise once what will be written often."""
        quantised = {
            name: Tensor(quantize(tensor.values, tensor.kind), tensor.kind)
            for name, tensor in self.tensors.items()
            if tensor.kind in {Q4_0, Q8_0} and tensor.values.dtype == np.float32
        }
        return self.with_tensors(dict(quantised))

    def write(self, path: Path) -> Path:
        writer = GGUFWriter(path, self.arch)
        for key, value in self.keys.items():
            if isinstance(value, Array):
                writer.add_key_value(key, value.values, GGUFValueType.ARRAY, value.kind)
            else:
                writer.add_key_value(key, value[1], value[0])
        for name, tensor in self.tensors.items():
            if tensor.values.dtype == np.uint8:
                writer.add_tensor(name, tensor.values, raw_dtype=tensor.kind)
            elif tensor.values.dtype == np.int64 or tensor.kind == PLAIN:
                writer.add_tensor(name, tensor.values)
            elif tensor.kind == F16:
                writer.add_tensor(name, tensor.values.astype(np.float16))
            else:
                writer.add_tensor(name, quantize(tensor.values, tensor.kind), raw_dtype=tensor.kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return path


def tokens() -> list[str]:
    """List a byte-level vocabulary: the bytes as GPT-2 spells them, a few merges' results, the specials."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    spelled = {byte: chr(byte) for byte in plain}
    spare = iter(range(256, 512))
    spelled |= {byte: chr(next(spare)) for byte in range(256) if byte not in spelled}
    return [spelled[byte] for byte in range(256)] + ["th", "in", "er", "an", *SPECIALS]


N_VOCAB = len(tokens())
MASK = N_VOCAB - 1


def vocab_keys() -> dict[str, tuple[GGUFValueType, Any] | Array]:
    kinds = [1] * (N_VOCAB - len(SPECIALS)) + [3] * len(SPECIALS)
    return {
        "tokenizer.ggml.model": (STR, "gpt2"),
        "tokenizer.ggml.pre": (STR, "qwen2"),
        "tokenizer.ggml.tokens": Array(STR, tokens()),
        "tokenizer.ggml.token_type": Array(I32, kinds),
        "tokenizer.ggml.merges": Array(STR, ["t h", "i n", "e r", "a n"]),
        "tokenizer.ggml.eos_token_id": (U32, N_VOCAB - 3),
        "tokenizer.ggml.bos_token_id": (U32, N_VOCAB - 2),
        "tokenizer.ggml.add_bos_token": (BOOL, False),
        "tokenizer.chat_template": (STR, "{{ messages }}"),
    }


def hyper_keys(arch: str, n_layer: int) -> dict[str, tuple[GGUFValueType, Any] | Array]:
    return {
        f"{arch}.context_length": (U32, 512),
        f"{arch}.embedding_length": (U32, N_EMBD),
        f"{arch}.block_count": (U32, n_layer),
        f"{arch}.feed_forward_length": (U32, N_FF),
        f"{arch}.attention.head_count": (U32, N_HEAD),
        f"{arch}.attention.head_count_kv": (U32, N_KV),
        f"{arch}.attention.key_length": (U32, HEAD_DIM),
        f"{arch}.attention.value_length": (U32, HEAD_DIM),
        f"{arch}.attention.layer_norm_rms_epsilon": (F32, 1e-6),
        f"{arch}.rope.freq_base": (F32, 10000.0),
    }


class _Weights:
    """Random tensors from a seed."""

    def __init__(self, seed: int, kind: GGMLQuantizationType) -> None:
        self.random, self.kind = np.random.default_rng(seed), kind

    def matrix(self, rows: int, width: int) -> Tensor:
        values = self.random.standard_normal((rows, width)) / np.sqrt(width)
        return Tensor(values.astype(np.float32), self.kind)

    def norm(self, width: int) -> Tensor:
        return Tensor(np.ones(width, np.float32))

    def layers(self, n_layer: int) -> dict[str, Tensor]:
        q, kv = N_HEAD * HEAD_DIM, N_KV * HEAD_DIM
        result: dict[str, Tensor] = {}
        for i in range(n_layer):
            result |= {
                f"blk.{i}.attn_norm.weight": self.norm(N_EMBD),
                f"blk.{i}.attn_q.weight": self.matrix(q, N_EMBD),
                f"blk.{i}.attn_k.weight": self.matrix(kv, N_EMBD),
                f"blk.{i}.attn_v.weight": self.matrix(kv, N_EMBD),
                f"blk.{i}.attn_output.weight": self.matrix(N_EMBD, q),
                f"blk.{i}.attn_q_norm.weight": self.norm(HEAD_DIM),
                f"blk.{i}.attn_k_norm.weight": self.norm(HEAD_DIM),
                f"blk.{i}.ffn_norm.weight": self.norm(N_EMBD),
                f"blk.{i}.ffn_gate.weight": self.matrix(N_FF, N_EMBD),
                f"blk.{i}.ffn_up.weight": self.matrix(N_FF, N_EMBD),
                f"blk.{i}.ffn_down.weight": self.matrix(N_EMBD, N_FF),
            }
        return result


def target(*, untied: bool = False, kind: GGMLQuantizationType = Q8_0, seed: int = 1) -> Tiny:
    """Make a qwen3 of two layers."""
    weights = _Weights(seed, kind)
    tensors = {
        "token_embd.weight": weights.matrix(N_VOCAB, N_EMBD),
        "output_norm.weight": weights.norm(N_EMBD),
    }
    if untied:
        tensors["output.weight"] = weights.matrix(N_VOCAB, N_EMBD)
    keys = hyper_keys("qwen3", N_LAYER) | vocab_keys()
    return Tiny("qwen3", keys, tensors | weights.layers(N_LAYER))


def draft(*, own_heads: bool = False, d2t: bool = False, kind: GGMLQuantizationType = Q8_0, seed: int = 2) -> Tiny:
    """Make a dflash drafter of one layer, with Markov and confidence heads, that taps both layers."""
    weights = _Weights(seed, kind)
    n_draft = N_VOCAB // 2 if d2t else N_VOCAB
    tensors = {
        "fc.weight": weights.matrix(N_EMBD, 2 * N_EMBD),
        "enc.output_norm.weight": weights.norm(N_EMBD),
        "output_norm.weight": weights.norm(N_EMBD),
        "markov_w1.weight": weights.matrix(N_VOCAB, RANK),
        "markov_w2.weight": weights.matrix(n_draft, RANK),
        "conf_proj.weight": weights.matrix(1, N_EMBD + RANK),
        "conf_proj.bias": Tensor(np.zeros(1, np.float32)),
    }
    if own_heads:
        tensors["token_embd.weight"] = weights.matrix(N_VOCAB, N_EMBD)
    if own_heads or d2t:
        tensors["output.weight"] = weights.matrix(n_draft, N_EMBD)
    if d2t:
        tensors["d2t"] = Tensor(np.arange(n_draft, dtype=np.int64) * 2)
    keys = hyper_keys("dflash", 1) | vocab_keys()
    keys |= {
        "dflash.block_size": (U32, BLOCK),
        "dflash.target_layers": Array(I32, [0, 1]),
        "dflash.sample_from_anchor": (BOOL, True),
        "dflash.has_confidence_head": (BOOL, True),
        "dflash.attention.causal": (BOOL, False),
        "tokenizer.ggml.mask_token_id": (U32, MASK),
    }
    return Tiny("dflash", keys, tensors | weights.layers(1))


KERNEL, GROUP, SELECTOR_RANK, CANDIDATES = 3, 16, 12, 7


def dflash(*, second: bool = False, kind: GGMLQuantizationType = Q8_0, seed: int = 3) -> Tiny:
    """Make a DFlash drafter of one layer: no Markov head; the second version convolves, and has a selector."""
    plain = draft(kind=kind, seed=seed)
    markov = {name: None for name in plain.tensors if name.startswith(("markov", "conf"))}
    plain = plain.with_tensors(markov).with_keys(
        dflash__has_confidence_head=(BOOL, False), dflash__sample_from_anchor=None
    )
    if not second:
        return plain
    weights = _Weights(seed + 1, kind)
    projected = 2 * KERNEL * (N_EMBD // GROUP)
    tensors = {
        "selector_predecessor.weight": weights.matrix(N_VOCAB, SELECTOR_RANK),
        "selector_successor.weight": weights.matrix(N_VOCAB, SELECTOR_RANK),
        "selector_hidden.weight": weights.matrix(SELECTOR_RANK, N_EMBD),
    }
    # the selector's rows are gathered, and its rank is no multiple of a block of quants
    tensors = {name: Tensor(t.values, PLAIN if "hidden" not in name else kind) for name, t in tensors.items()}
    for part in ("attn", "ffn"):
        base = weights.random.standard_normal((2, KERNEL, N_EMBD)).astype(np.float32)
        tensors |= {
            f"blk.0.{part}_conv_base": Tensor(base),
            f"blk.0.{part}_conv_proj.weight": weights.matrix(projected, N_EMBD),
        }
    return plain.with_tensors(dict(tensors)).with_keys(
        dflash__conv_kernel_size=(U32, KERNEL),
        dflash__conv_group_size=(U32, GROUP),
        dflash__selector_rank=(U32, SELECTOR_RANK),
        dflash__selector_top_k=(U32, CANDIDATES),
    )
