"""Tiny checkpoints of random weights in the published layouts.

Layouts were read in llama.cpp's conversion/qwen.py and in the config.json of deepseek-ai/dspark_qwen3_4b_block7.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors.numpy import save_file

if TYPE_CHECKING:
    from pathlib import Path

HIDDEN, FFN, HEAD, HEADS, KV, LAYERS, VOCAB, RANK = 64, 96, 32, 2, 1, 3, 300, 32
MASK = 299
QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

TEMPLATE = "{% for m in messages %}{{ m.content }}{% endfor %}"

Tensors = dict[str, np.ndarray[Any, Any]]


def config(**changes: object) -> dict[str, object]:
    return {
        "architectures": ["Qwen3ForCausalLM"],
        "hidden_size": HIDDEN,
        "intermediate_size": FFN,
        "head_dim": HEAD,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV,
        "num_hidden_layers": LAYERS,
        "vocab_size": VOCAB,
        "max_position_embeddings": 512,
        "rms_norm_eps": 1e-6,
        "rope_theta": 1e6,
        "tie_word_embeddings": True,
        "eos_token_id": 297,
        **changes,
    }


def draft_config(**changes: object) -> dict[str, object]:
    return config(
        architectures=["Qwen3DSparkModel"],
        num_hidden_layers=1,
        tie_word_embeddings=False,
        block_size=4,
        target_layer_ids=[0, 1],
        mask_token_id=MASK,
        markov_rank=RANK,
        markov_head_type="vanilla",
        **changes,
    )


def random(*shape: int, seed: int) -> np.ndarray[Any, Any]:
    values = np.random.default_rng([seed, *shape]).standard_normal(shape, np.float32)
    return values / np.float32(np.sqrt(shape[-1]))


def layers(n: int, seed: int) -> Tensors:
    shapes = {
        "input_layernorm": (HIDDEN,),
        "self_attn.q_proj": (HEADS * HEAD, HIDDEN),
        "self_attn.k_proj": (KV * HEAD, HIDDEN),
        "self_attn.v_proj": (KV * HEAD, HIDDEN),
        "self_attn.o_proj": (HIDDEN, HEADS * HEAD),
        "self_attn.q_norm": (HEAD,),
        "self_attn.k_norm": (HEAD,),
        "post_attention_layernorm": (HIDDEN,),
        "mlp.gate_proj": (FFN, HIDDEN),
        "mlp.up_proj": (FFN, HIDDEN),
        "mlp.down_proj": (HIDDEN, FFN),
    }
    return {
        f"layers.{i}.{name}.weight": random(*shape, seed=seed + 100 * i + k)
        for i in range(n)
        for k, (name, shape) in enumerate(shapes.items())
    }


def layer_names(n: int) -> dict[str, str]:
    """GGUF names of the tensors of n layers: llama.cpp's own, written down here a second time."""
    names = {
        "input_layernorm": "attn_norm",
        "self_attn.q_proj": "attn_q",
        "self_attn.k_proj": "attn_k",
        "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output",
        "self_attn.q_norm": "attn_q_norm",
        "self_attn.k_norm": "attn_k_norm",
        "post_attention_layernorm": "ffn_norm",
        "mlp.gate_proj": "ffn_gate",
        "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down",
    }
    return {f"layers.{i}.{a}.weight": f"blk.{i}.{b}.weight" for i in range(n) for a, b in names.items()}


def target_tensors(*, tied: bool = True) -> Tensors:
    tensors = {
        "model.embed_tokens.weight": random(VOCAB, HIDDEN, seed=1),
        "model.norm.weight": random(HIDDEN, seed=2),
        **{f"model.{name}": t for name, t in layers(LAYERS, 10).items()},
    }
    return tensors if tied else tensors | {"lm_head.weight": random(VOCAB, HIDDEN, seed=3)}


def draft_tensors() -> Tensors:
    return {
        "fc.weight": random(HIDDEN, 2 * HIDDEN, seed=4),
        "hidden_norm.weight": random(HIDDEN, seed=5),
        "norm.weight": random(HIDDEN, seed=6),
        "markov_head.markov_w1.weight": random(VOCAB, RANK, seed=7),
        "markov_head.markov_w2.weight": random(VOCAB, RANK, seed=8),
        "confidence_head.proj.weight": random(1, HIDDEN + RANK, seed=9),
        "confidence_head.proj.bias": random(1, seed=10),
        **layers(1, 500),
    }


def tokenizer(regex: str = QWEN2) -> dict[str, object]:
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    spare = iter(range(256, 512))
    letters = [chr(b) if b in plain else chr(next(spare)) for b in range(256)]
    specials = {296: "<|im_start|>", 297: "<|im_end|>", 298: "<|endoftext|>", MASK: "<|mask|>"}
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    split = {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": False}
    bytelevel = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    return {
        "version": "1.0",
        "added_tokens": [{"id": i, "content": t, "special": True, **flags} for i, t in specials.items()],
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, bytelevel]},
        "post_processor": None,
        "decoder": None,
        "model": {"type": "BPE", "vocab": {t: i for i, t in enumerate([*letters, "th"])}, "merges": [["t", "h"]]},
    }


def write(folder: Path, config: dict[str, object], tensors: Tensors, *, tokenized: bool = True) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    save_file(tensors, folder / "model.safetensors")
    if tokenized:
        (folder / "tokenizer.json").write_text(json.dumps(tokenizer()))
        settings = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", "chat_template": TEMPLATE}
        (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


def target(folder: Path, *, tied: bool = True, **changes: object) -> Path:
    return write(folder, config(tie_word_embeddings=tied, **changes), target_tensors(tied=tied))


def draft(folder: Path, **changes: object) -> Path:
    return write(folder, draft_config(**changes), draft_tensors(), tokenized=False)


def edit(folder: Path, **changes: object) -> None:
    """Change the config of a checkpoint."""
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
