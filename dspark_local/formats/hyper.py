"""Hyperparameters: the keys that an architecture reads, of which type and range, and what comes of them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dspark_local.formats.faults import format_fault, quoted
from dspark_local.formats.vocab import vocab_size

if TYPE_CHECKING:
    from collections.abc import Callable

    from dspark_local.formats.gguf import GGUF, Value

_MOST_LAYERS = 512  # LLAMA_MAX_LAYERS
_MOST = 2**31 - 1  # llama.cpp keeps many of them in an int


@dataclass(frozen=True, slots=True)
class KeyRule:
    """What a key must hold: a type, and a range in words with its test."""

    key: str
    type: str
    wanted: str = ""
    test: Callable[[Value], bool] = field(default=lambda _value: True)
    required: bool = False


def _count(key: str, *, required: bool = False, least: int = 1, most: int = _MOST) -> KeyRule:
    def test(value: Value) -> bool:
        return isinstance(value, int) and least <= value <= most

    return KeyRule(key, "u32", f"between {least} and {most}", test, required)


def _number(key: str, *, required: bool = False, positive: bool = False) -> KeyRule:
    def test(value: Value) -> bool:
        return isinstance(value, float) and math.isfinite(value) and (value > 0 or not positive)

    return KeyRule(key, "f32", "a finite number" + " above 0" * positive, test, required)


def _zero(key: str, wanted: str) -> KeyRule:
    return KeyRule(key, "u32", wanted, lambda value: value == 0)


# %s is the architecture. Each line is something that llama.cpp asserts, divides by, or hands to an operator
# that asserts: a negative or NaN epsilon, for one, aborts in the first norm.
RULES = (
    _count("%s.context_length", required=True),
    _count("%s.embedding_length", required=True),
    _count("%s.block_count", required=True, most=_MOST_LAYERS),
    _count("%s.feed_forward_length", required=True),
    _count("%s.attention.head_count", required=True),
    _count("%s.attention.head_count_kv"),
    _count("%s.attention.key_length"),
    _count("%s.attention.value_length"),
    _count("%s.rope.dimension_count"),
    _count("%s.rope.scaling.original_context_length"),
    _zero("%s.pooling_type", "0 (it is an embedding model)"),
    _zero("%s.expert_count", "0 (this architecture has no experts)"),
    _zero("%s.expert_used_count", "0 (this architecture has no experts)"),
    _zero("%s.expert_group_count", "0 (this architecture has no experts)"),
    _zero("%s.nextn_predict_layers", "0 (this architecture has none)"),
    _number("%s.attention.layer_norm_rms_epsilon", required=True, positive=True),
    _number("%s.rope.freq_base", positive=True),
    _number("%s.rope.scaling.factor"),
    _number("%s.rope.scaling.attn_factor"),
    _number("%s.rope.scaling.alpha"),
    _number("%s.rope.scale_linear"),
    KeyRule("%s.rope.scaling.finetuned", "bool"),
    KeyRule("%s.rope.scaling.type", "str", "none, linear, yarn or longrope",
            lambda value: value in {"none", "linear", "yarn", "longrope"}),
    KeyRule("%s.attention.causal", "bool"),
)  # fmt: skip
GENERAL_RULES = (
    KeyRule("general.name", "str"),
    KeyRule("general.file_type", "u32"),
    KeyRule("split.count", "u16"),
    KeyRule("split.no", "u16"),
)
DFLASH_RULES = (
    _count("%s.block_size", required=True, least=2, most=256),
    _number("%s.attention.scale"),
    _number("%s.attention.value_scale"),
    _number("%s.embedding_scale"),
    _number("%s.logit_scale"),
    _number("%s.final_logit_softcapping"),
    KeyRule("%s.hidden_activation", "str", "silu or gelu",
            lambda value: value in {"silu", "gelu", "gelu_pytorch_tanh"}),
    KeyRule("%s.target_layers", "arr[i32]|arr[u32]", required=True),
    KeyRule("%s.sample_from_anchor", "bool"),
    KeyRule("%s.has_confidence_head", "bool"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Hyper:
    """The numbers that tensor shapes are made of."""

    n_embd: int
    n_layer: int
    n_ff: int
    n_head: int
    n_head_kv: int
    head_dim: int
    n_vocab: int


def check_keys(gguf: GGUF, rules: tuple[KeyRule, ...]) -> None:
    """Raise ModelFormatError at the first key that breaks its rule."""
    for rule in rules:
        key = rule.key.replace("%s", gguf.arch)
        value, found = gguf.meta(key), gguf.type_of(key)
        if value is None:
            if rule.required:
                raise format_fault(gguf.path, f"{key} is missing")
        elif found not in rule.type.split("|"):
            raise format_fault(gguf.path, f"{key} is of type {found}, not {rule.type.replace('|', ' or ')}")
        elif not rule.test(value):
            raise format_fault(gguf.path, f"{key} is {quoted(str(value))}, not {rule.wanted}")


def read_hyper(gguf: GGUF) -> Hyper:
    """Read the hyperparameters of a file whose keys were checked. Raises ModelFormatError."""
    prefix = gguf.arch

    def number(key: str, default: int) -> int:
        value = gguf.meta(f"{prefix}.{key}", default)
        assert isinstance(value, int)
        return value

    n_embd, n_head = number("embedding_length", 0), number("attention.head_count", 0)
    head_dim = number("attention.key_length", n_embd // n_head)
    hyper = Hyper(
        n_embd=n_embd,
        n_layer=number("block_count", 0),
        n_ff=number("feed_forward_length", 0),
        n_head=n_head,
        n_head_kv=number("attention.head_count_kv", n_head),
        head_dim=head_dim,
        n_vocab=vocab_size(gguf),
    )
    if hyper.n_head % hyper.n_head_kv:
        what = f"{n_head} attention heads cannot share {hyper.n_head_kv} key-value heads"
        raise format_fault(gguf.path, what)
    for key, default in (("attention.value_length", n_embd // n_head), ("rope.dimension_count", head_dim)):
        if number(key, default) != head_dim:
            what = f"{prefix}.{key} is {number(key, default)}, not the head size {head_dim}"
            raise format_fault(gguf.path, what)
    if head_dim == 0 or head_dim % 2:
        raise format_fault(gguf.path, f"attention heads of {head_dim} values cannot be rotated in pairs")
    return hyper
