"""Damaged model files: the i-th mutant of a fixed seed, in ways that bytes rot and converters err.

Half of the kinds damage bytes, which mostly stops at the reader; the other half write a well-formed file that says
something else, which is what reaches the rules, and llama.cpp.
"""

from __future__ import annotations

import random
import struct
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from gguf import GGMLQuantizationType, GGUFValueType

from dspark_local.formats.ggml import GGML_TYPES
from tests.formats import tiny
from tests.formats.tiny import Array, Tensor, Tiny

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SEED = 20261123
ODD_INTS = (0, 1, 2, 3, 7, 8, 31, 32, 33, 63, 64, 65, 127, 128, 255, 256, 257, 512, 513, 65535, 65536,
            2**31 - 1, 2**31, 2**32 - 1)  # fmt: skip
ODD_WIDE = (*ODD_INTS, 2**32, 2**40, 2**62, 2**63 - 1, 2**63, 2**64 - 1)
ODD_FLOATS = (0.0, -0.0, 1.0, -1.0, 1e-45, 1e38, -1e38, float("inf"), float("-inf"), float("nan"), 1e-6, 10000.0)
ODD_TEXTS = ("", "none", "linear", "yarn", "longrope", "gpt2", "llama", "bert", "t5", "no_vocab", "qwen2", "qwen3",
             "dflash", "gemma4", "\0", "a\0b", "\u0120", "é" * 300, "<|im_end|>", "\n", "phi-3")  # fmt: skip
SCALARS = ("UINT8", "INT8", "UINT16", "INT16", "UINT32", "INT32", "UINT64", "INT64", "FLOAT32", "FLOAT64", "BOOL",
           "STRING")  # fmt: skip
# Keys that llama.cpp reads and that the tiny files do not have.
MORE_KEYS = ("pooling_type", "expert_count", "expert_used_count", "expert_group_count", "nextn_predict_layers",
             "rope.dimension_count", "rope.scaling.type", "rope.scaling.factor", "rope.scaling.attn_factor",
             "rope.scaling.original_context_length", "rope.scale_linear", "rope.dimension_sections",
             "attention.causal", "attention.sliding_window", "attention.sliding_window_pattern",
             "attention.key_length_swa", "attention.scale", "attention.value_scale", "embedding_length_out",
             "embedding_scale", "logit_scale", "final_logit_softcapping", "hidden_activation", "vocab_size",
             "hyper_connection.count", "selector_rank", "classifier.output_labels")  # fmt: skip
MORE_GENERAL = ("general.alignment", "general.file_type", "general.name", "general.tensor_extra.name", "split.count",
                "tokenizer.ggml.scores", "tokenizer.ggml.add_eos_token", "tokenizer.ggml.add_space_prefix",
                "tokenizer.ggml.suppress_tokens", "tokenizer.ggml.eot_token_id", "tokenizer.ggml.padding_token_id",
                "tokenizer.ggml.token_type_count", "tokenizer.ggml.unknown_token_id")  # fmt: skip
MORE_TENSORS = ("output.weight", "token_embd.weight", "d2t", "rope_freqs.weight", "markov_w2.scale",
                "cls.output.weight",
                "blk.0.attn_q.bias", "blk.0.attn_q.scale", "blk.0.attn_qkv.weight", "blk.0.attn_sinks.weight",
                "blk.0.layer_output_scale.weight", "blk.0.post_attention_norm.weight", "selector_hidden.weight",
                "blk.2.attn_norm.weight", "x")  # fmt: skip


@dataclass(frozen=True)
class Mutant:
    """One damaged pair on disk, and what was done to which of its files."""

    target: Path
    draft: Path
    story: str


class Nursery:
    """Sound pairs, and mutants of them written into one folder (each overwrites the last)."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        pairs = (
            (tiny.target(), tiny.draft()),
            (tiny.target(untied=True, kind=tiny.Q4_0), tiny.draft(own_heads=True, kind=tiny.Q4_0)),
            (tiny.target(untied=True), tiny.draft(d2t=True, kind=tiny.F16)),
        )
        self._pairs = [(target.encoded(), draft.encoded()) for target, draft in pairs]
        self._paths = [
            (t.write(folder / f"sound-{i}-t.gguf"), d.write(folder / f"sound-{i}-d.gguf"))
            for i, (t, d) in enumerate(self._pairs)
        ]

    def mutant(self, index: int) -> Mutant:
        """The index-th, whatever came before it."""
        rng = random.Random(f"{SEED}:{index}")
        which, side = rng.randrange(len(self._pairs)), rng.randrange(2)
        paths = list(self._paths[which])
        model, sound = self._pairs[which][side], paths[side]
        bent = self._folder / "bent.gguf"
        kind = rng.choice(BYTE_KINDS + MODEL_KINDS)
        if kind in BYTE_KINDS:
            data = bytearray(sound.read_bytes())
            for _ in range(rng.choice((1, 1, 1, 2, 5))):
                data = kind(rng, data)
            bent.write_bytes(data)
        else:
            for _ in range(rng.choice((1, 1, 1, 2))):
                model = kind(rng, model)
            model.write(bent)
        paths[side] = bent
        return Mutant(paths[0], paths[1], f"#{index} pair {which}, {('target', 'draft')[side]}: {kind.__name__}")


# -- damaged bytes


def fields(data: bytes) -> list[tuple[int, str]]:
    """Where counts, lengths, types, dimensions and offsets stand, by struct code; a reader of its own."""
    found: list[tuple[int, str]] = [(4, "I"), (8, "Q"), (16, "Q")]
    n_tensors, n_keys = struct.unpack_from("<QQ", data, 8)
    at = 24

    def take(code: str) -> int:
        nonlocal at
        found.append((at, code))
        (value,) = struct.unpack_from(f"<{code}", data, at)
        at += struct.calcsize(code)
        return int(value)

    widths = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
    for _ in range(n_keys):
        at += take("Q")
        kind, count = take("I"), 1
        if kind == 9:
            kind, count = take("I"), take("Q")
        for i in range(count if kind == 8 else 0):
            at += take("Q") if i < 8 else struct.unpack_from("<Q", data, at)[0] + 8
        at += 0 if kind == 8 else widths[kind] * count
    for _ in range(n_tensors):
        at += take("Q")
        for _ in range(take("I")):
            take("Q")
        take("I")
        take("Q")
    found.append((at, "end"))
    return found


def flipped_bits(rng: random.Random, data: bytearray) -> bytearray:
    for _ in range(rng.randint(1, 8)):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return data


def header_bytes(rng: random.Random, data: bytearray) -> bytearray:
    end = min(fields_end(data), len(data))
    for _ in range(rng.randint(1, 4)):
        data[rng.randrange(end)] = rng.choice((0, 1, 9, 0x20, 0x7F, 0x80, 0xFF, rng.randrange(256)))
    return data


def header_fields(rng: random.Random, data: bytearray) -> bytearray:
    try:
        at, code = rng.choice(fields(data)[:-1])
    except (struct.error, KeyError, OverflowError):  # damaged before
        return data
    (old,) = struct.unpack_from(f"<{code}", data, at)
    new = rng.choice((*ODD_WIDE, old + 1, old - 1, old * 2, old ^ 1, old + 32, rng.randrange(44)))
    struct.pack_into(f"<{code}", data, at, new % (2**64 if code == "Q" else 2**32))
    return data


def truncated(rng: random.Random, data: bytearray) -> bytearray:
    end = fields_end(data)
    return data[: rng.choice((rng.randrange(len(data) + 1), rng.randrange(end + 1), len(data) - rng.randrange(64)))]


def shifted(rng: random.Random, data: bytearray) -> bytearray:
    at, n = rng.randrange(fields_end(data)), rng.choice((1, 2, 4, 8, 32))
    if rng.random() < 0.5:
        return data[:at] + data[at + n :]
    return data[:at] + rng.randbytes(n) + data[at:]


def tensor_data(rng: random.Random, data: bytearray) -> bytearray:
    start = min(fields_end(data), len(data) - 64)
    for _ in range(rng.randint(1, 64)):
        data[rng.randrange(start, len(data))] = rng.randrange(256)
    return data


def fields_end(data: bytes) -> int:
    try:
        return max(1, min(fields(data)[-1][0], len(data)))
    except (struct.error, KeyError, OverflowError, MemoryError):
        return max(1, min(10000, len(data)))


BYTE_KINDS: tuple[Callable[[random.Random, bytearray], bytearray], ...] = (
    flipped_bits, header_bytes, header_fields, truncated, shifted, tensor_data,
)  # fmt: skip


# -- well-formed files that say something else


def odd_value(rng: random.Random, kind: GGUFValueType) -> Any:
    if kind is GGUFValueType.STRING:
        return rng.choice(ODD_TEXTS)
    if kind is GGUFValueType.BOOL:
        return rng.random() < 0.5
    if kind in {GGUFValueType.FLOAT32, GGUFValueType.FLOAT64}:
        return rng.choice(ODD_FLOATS)
    bits = int("".join(c for c in kind.name if c.isdigit()))
    value = rng.choice(ODD_WIDE) % 2**bits
    return value - 2**bits if kind.name.startswith("INT") and value >= 2 ** (bits - 1) else value


def other_value(rng: random.Random, model: Tiny) -> Tiny:
    """A key with another value of its type: what passes the reader."""
    key = rng.choice([k for k in model.keys if k != "tokenizer.chat_template"])
    old = model.keys[key]
    if isinstance(old, Array):
        values = list(old.values)
        for _ in range(rng.randint(1, 3)):
            values[rng.randrange(len(values))] = odd_value(rng, old.kind)
        return replace(model, keys=model.keys | {key: Array(old.kind, values)})
    near = rng.random() < 0.5 and old[0] is GGUFValueType.UINT32
    value = (old[1] + rng.choice((-2, -1, 1, 2, 32))) % 2**32 if near else odd_value(rng, old[0])
    return replace(model, keys=model.keys | {key: (old[0], value)})


def other_type(rng: random.Random, model: Tiny) -> Tiny:
    """A key, there already or one more that llama.cpp reads, with a value of any type."""
    more = [f"{model.arch}.{name}" for name in MORE_KEYS] + list(MORE_GENERAL)
    key = rng.choice([*model.keys, *more])
    kind = GGUFValueType[rng.choice(SCALARS)]
    value = odd_value(rng, kind)
    new = Array(kind, [value] * rng.choice((1, 2, 4))) if rng.random() < 0.25 else (kind, value)
    return replace(model, keys=model.keys | {key: new})


def likely_key(rng: random.Random, model: Tiny) -> Tiny:
    """One more key that llama.cpp reads, of a type that it would take."""
    key = f"{model.arch}.{rng.choice(MORE_KEYS)}"
    kind = GGUFValueType[rng.choice(("UINT32", "FLOAT32", "BOOL", "STRING"))]
    return replace(model, keys=model.keys | {key: (kind, odd_value(rng, kind))})


def lost_key(rng: random.Random, model: Tiny) -> Tiny:
    key = rng.choice(list(model.keys))
    keys = {k: v for k, v in model.keys.items() if k != key}
    return replace(model, keys=keys | ({key + "x": model.keys[key]} if rng.random() < 0.3 else {}))


def vocabulary(rng: random.Random, model: Tiny) -> Tiny:
    """Tokens doubled, emptied, cut or added; lists of another length."""
    key = rng.choice(("tokenizer.ggml.tokens", "tokenizer.ggml.tokens", "tokenizer.ggml.token_type",
                      "tokenizer.ggml.merges"))  # fmt: skip
    old = model.keys.get(key)
    if not isinstance(old, Array):
        return model
    values = list(old.values)
    at = rng.randrange(len(values))
    match rng.randrange(5):
        case 0:
            values[at] = values[rng.randrange(len(values))]
        case 1:
            values[at] = odd_value(rng, old.kind)
        case 2:
            del values[at:-1]
        case 3:
            values += [odd_value(rng, old.kind)] * rng.choice((1, 1, 9))
        case _:
            rng.shuffle(values)
    return replace(model, keys=model.keys | {key: Array(old.kind, values)})


def tensor_of(rng: random.Random, rows: int, width: int) -> Tensor:
    """Random bytes as a tensor of some type that fits the width."""
    fitting = [t for t in GGML_TYPES.values() if width % t.block == 0 and t.number not in {9, 42}]
    kind = rng.choice(fitting)
    n_bytes = rows * (width // kind.block) * kind.nbytes
    values = np.frombuffer(rng.randbytes(n_bytes), np.uint8).reshape(rows, -1)
    return Tensor(values, GGMLQuantizationType(kind.number))


def tensor_type(rng: random.Random, model: Tiny) -> Tiny:
    """A tensor of its shape in another type."""
    name = rng.choice(list(model.tensors))
    rows, width = shape_of(model.tensors[name])
    return model.with_tensors({name: tensor_of(rng, rows, width)})


def tensor_shape(rng: random.Random, model: Tiny) -> Tiny:
    name = rng.choice(list(model.tensors))
    rows, width = shape_of(model.tensors[name])
    new = rng.choice(((rows, width * 2), (rows * 2, width), (rows + 1, width), (max(1, rows - 1), width), (1, 32),
                      (width, rows) if rows % 32 == 0 else (rows, 32)))  # fmt: skip
    return model.with_tensors({name: tensor_of(rng, *new)})


def tensor_set(rng: random.Random, model: Tiny) -> Tiny:
    """A tensor lost, renamed, swapped with another, or one more."""
    name, other = rng.choice(list(model.tensors)), rng.choice(list(model.tensors))
    match rng.randrange(4):
        case 0:
            return model.with_tensors({name: None})
        case 1:
            return model.with_tensors({name: None, rng.choice((name + "x", *MORE_TENSORS)): model.tensors[name]})
        case 2:
            return model.with_tensors({name: model.tensors[other], other: model.tensors[name]})
        case _:
            width = rng.choice((1, 16, 32, 64, 264))
            extra = tensor_of(rng, rng.choice((1, 1, 64, 264)), width)
            return model.with_tensors({rng.choice(MORE_TENSORS): extra})


def shape_of(tensor: Tensor) -> tuple[int, int]:
    """Rows and width in elements; of a vector, one row."""
    shape = tensor.values.shape if len(tensor.values.shape) > 1 else (1, tensor.values.shape[0])
    if tensor.values.dtype != np.uint8:
        return shape[0], shape[1]
    kind = GGML_TYPES[int(tensor.kind)]
    return shape[0], shape[1] // kind.nbytes * kind.block


MODEL_KINDS: tuple[Callable[[random.Random, Tiny], Tiny], ...] = (
    other_value, other_value, other_type, likely_key, lost_key, vocabulary, tensor_type, tensor_shape, tensor_set,
)  # fmt: skip
