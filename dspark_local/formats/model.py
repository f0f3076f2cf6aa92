"""Whether a file's tensor table carries out what its hyperparameters promise.

The rules are data, one line per tensor, after llama.cpp's src/models/qwen3.cpp and dflash.cpp. What they do
not model (another architecture, fused weights, sliding windows) is not refused but called unknown, and
backend/probe.py finds out in a child process.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Literal

from dspark_local.formats.faults import format_fault, quoted
from dspark_local.formats.hyper import (
    DFLASH_RULES,
    GENERAL_RULES,
    RULES,
    Hyper,
    KeyRule,
    check_keys,
    read_hyper,
)
from dspark_local.formats.vocab import check_vocab

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dspark_local.formats.gguf import GGUF, TensorInfo


class Soundness(Enum):
    """What the rules say of a file that they do not refuse."""

    SOUND = "sound"  # llama.cpp will load and run it
    UNKNOWN = "unknown"  # nobody knows before the probe has tried


@dataclass(frozen=True, slots=True)
class TensorRule:
    """One tensor, {} its layer: dimensions by name (see _dims) and what it is used as.

    A matrix is multiplied with, so it may be quantised; a vector is added or multiplied by element, for which
    llama.cpp has F32 kernels only; ids are I64.
    """

    name: str
    shape: tuple[str, ...]
    use: Literal["matrix", "vector", "ids"] = "matrix"
    required: bool = True


@dataclass(frozen=True, slots=True)
class ArchRules:
    """What is known of one architecture: its keys, its tensors, and keys that lead beyond these rules."""

    keys: tuple[KeyRule, ...]
    tensors: tuple[TensorRule, ...]
    beyond: tuple[str, ...] = ()


def _vector(name: str, *shape: str, required: bool = True) -> TensorRule:
    return TensorRule(name, shape, "vector", required)


_LAYER = (
    _vector("blk.{}.attn_norm.weight", "embd"),
    TensorRule("blk.{}.attn_q.weight", ("embd", "q")),
    TensorRule("blk.{}.attn_k.weight", ("embd", "kv")),
    TensorRule("blk.{}.attn_output.weight", ("q", "embd")),
    _vector("blk.{}.attn_q_norm.weight", "head"),
    _vector("blk.{}.attn_k_norm.weight", "head"),
    _vector("blk.{}.ffn_norm.weight", "embd"),
    TensorRule("blk.{}.ffn_gate.weight", ("embd", "ff")),
    TensorRule("blk.{}.ffn_down.weight", ("ff", "embd")),
    TensorRule("blk.{}.ffn_up.weight", ("embd", "ff")),
)
_QWEN3 = (
    TensorRule("token_embd.weight", ("embd", "vocab")),
    TensorRule("output.weight", ("embd", "vocab"), required=False),
    _vector("output_norm.weight", "embd"),
    *_LAYER,
    TensorRule("blk.{}.attn_v.weight", ("embd", "kv")),
    _vector("blk.{}.attn_q.bias", "q", required=False),
    _vector("blk.{}.attn_k.bias", "kv", required=False),
    _vector("blk.{}.attn_v.bias", "kv", required=False),
)
_DFLASH = (
    TensorRule("token_embd.weight", ("embd", "vocab"), required=False),
    TensorRule("output.weight", ("embd", "draft_vocab"), required=False),
    TensorRule("d2t", ("draft_vocab",), "ids", required=False),
    TensorRule("fc.weight", ("taps", "embd")),
    _vector("enc.output_norm.weight", "embd"),
    _vector("output_norm.weight", "embd"),
    TensorRule("markov_w1.weight", ("rank", "vocab"), required=False),
    TensorRule("markov_w2.weight", ("rank", "draft_vocab"), required=False),
    _vector("markov_w2.scale", "one", required=False),
    TensorRule("conf_proj.weight", ("embd+rank", "one"), required=False),
    _vector("conf_proj.bias", "one", required=False),
    *_LAYER,
    TensorRule("blk.{}.attn_v.weight", ("embd", "kv"), required=False),
    _vector("blk.{}.post_attention_norm.weight", "embd", required=False),
    _vector("blk.{}.post_ffw_norm.weight", "embd", required=False),
    _vector("blk.{}.layer_output_scale.weight", "one", required=False),
    _vector("blk.{}.attn_sinks.weight", "heads", required=False),
    _vector("rope_freqs.weight", "head/2", required=False),
)
_BEYOND = ("%s.attention.key_length_swa", "%s.attention.value_length_swa", "%s.rope.dimension_count_swa",
           "%s.embedding_length_out", "general.tensor_extra.name", "%s.classifier.output_labels",
           "%s.classifier.pooling_type")  # fmt: skip
_STREAMS = "%s.hyper_connection.count"  # DeepSeek-V4's drafters
ARCHES: Mapping[str, ArchRules] = {
    "qwen3": ArchRules(GENERAL_RULES + RULES, _QWEN3, _BEYOND),
    "dflash": ArchRules(
        GENERAL_RULES + RULES + DFLASH_RULES,
        _DFLASH,
        (*_BEYOND, _STREAMS, "%s.selector_rank", "%s.conv_kernel_size",
         "%s.rope.dimension_sections", "%s.attention.sliding_window"),
    ),
}  # fmt: skip
# Tensors that llama.cpp takes beside those above, and that no rule models.
_UNMODELLED = re.compile(r".*\.(scale|input_scale|bias)|blk\.\d+\.(attn_qkv|.*_conv_\w+)\..*|cls\..*|selector_.*|hc_.*")


def check_model(gguf: GGUF) -> Soundness:
    """Check metadata, vocabulary and tensor table against each other.

    Raises ModelFormatError for a file that llama.cpp would refuse or die of.
    """
    known_vocab = check_vocab(gguf)
    if "d2t" in gguf.tensors and gguf.type_of(_STREAMS.replace("%s", gguf.arch)):
        raise format_fault(
            gguf.path, "llama.cpp's graph of DeepSeek-V4's drafters knows no vocabulary of their own (d2t)"
        )
    rules = ARCHES.get(gguf.arch)
    if rules is None or any(gguf.type_of(key.replace("%s", gguf.arch)) for key in rules.beyond):
        check_keys(gguf, GENERAL_RULES)
        return Soundness.UNKNOWN
    check_keys(gguf, rules.keys)
    hyper = read_hyper(gguf)
    unmodelled = _check_tensors(gguf, rules.tensors, _dims(gguf, hyper), hyper.n_layer)
    return Soundness.SOUND if known_vocab and not unmodelled else Soundness.UNKNOWN


def _dims(gguf: GGUF, hyper: Hyper) -> dict[str, int]:
    def length(name: str, default: int) -> int:
        return gguf.tensors[name].shape[0] if name in gguf.tensors and gguf.tensors[name].shape else default

    rank = length("markov_w1.weight", 0)
    return {
        "one": 1,
        "embd": hyper.n_embd,
        "vocab": hyper.n_vocab,
        "draft_vocab": length("d2t", hyper.n_vocab),
        "ff": hyper.n_ff,
        "heads": hyper.n_head,
        "head": hyper.head_dim,
        "head/2": hyper.head_dim // 2,
        "q": hyper.n_head * hyper.head_dim,
        "kv": hyper.n_head_kv * hyper.head_dim,
        "taps": gguf.count(f"{gguf.arch}.target_layers") * hyper.n_embd,
        "rank": rank,
        "embd+rank": hyper.n_embd + rank,
    }


def _check_tensors(gguf: GGUF, rules: tuple[TensorRule, ...], dims: Mapping[str, int], n_layer: int) -> bool:
    """Check the tensor table; True if there are tensors that llama.cpp knows and the rules do not."""
    beyond = [name for name in gguf.tensors if _UNMODELLED.fullmatch(name)]
    expected: set[str] = set()
    for rule in rules:
        shape = tuple(dims[name] for name in rule.shape)
        for layer in range(n_layer if "{}" in rule.name else 1):
            name = rule.name.replace("{}", str(layer))
            info = gguf.tensors.get(name)
            expected.add(name)
            if info is not None:
                _check_tensor(gguf, rule, info, shape)
            elif rule.required and not any("attn_qkv" in other for other in beyond):
                raise format_fault(gguf.path, f"tensor {quoted(name)} is missing: convert it again")
    for name in gguf.tensors:
        if name not in expected and name not in beyond:
            raise format_fault(gguf.path, f"tensor {quoted(name)} does not belong into a {gguf.arch} model")
    for name in beyond:  # what has no shape here still has one type, as it is added or multiplied by element
        if name.endswith(("scale", "bias")) and gguf.tensors[name].type.name != "F32":
            kind = gguf.tensors[name].type.name
            raise format_fault(gguf.path, f"tensor {quoted(name)} is of type {kind}, not F32")
    if "d2t" in gguf.tensors:
        _check_d2t(gguf, dims["vocab"])
    return any(name not in expected for name in beyond)


def _check_tensor(gguf: GGUF, rule: TensorRule, info: TensorInfo, shape: tuple[int, ...]) -> None:
    shown, kind = f"tensor {quoted(info.name)}", info.type
    if not info.has_shape(*shape):
        raise format_fault(gguf.path, f"{shown} has the shape {info.shape}, expected {shape}")
    fits = kind.weight if rule.use == "matrix" else kind.name == {"vector": "F32", "ids": "I64"}[rule.use]
    if not fits:
        raise format_fault(gguf.path, f"{shown} is of type {kind.name}, which llama.cpp cannot use for it")


def _check_d2t(gguf: GGUF, n_vocab: int) -> None:
    ids = gguf.ints("d2t")
    if ids.min() < 0 or ids.max() >= n_vocab:
        raise format_fault(gguf.path, f"d2t maps to tokens outside the vocabulary of {n_vocab}")
