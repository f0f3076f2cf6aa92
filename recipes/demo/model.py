"""The target in plain torch: a small Qwen3, of the layers that the package's drafter is made of."""

from __future__ import annotations

from dataclasses import asdict

import torch
from tokenizer import END_OF_TEXT, IM_END, VOCAB_SIZE
from torch import Tensor, nn
from torch.nn import functional

from dspark_local.training.design import Shape
from dspark_local.training.network import Layer, RMSNorm, initialise, rotary, stack

# Heads are 2 : 1, the head size and the group ratio of Qwen3-0.6B and 1.7B.
SHAPE = Shape(
    hidden_size=256,
    intermediate_size=768,
    num_hidden_layers=6,
    num_attention_heads=2,
    num_key_value_heads=1,
    head_dim=128,
    rms_norm_eps=1e-6,
    rope_theta=1e6,
    vocab_size=VOCAB_SIZE,
    max_position_embeddings=2048,
)


class TargetBody(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.embed_tokens = nn.Embedding(shape.vocab_size, shape.hidden_size)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.num_hidden_layers))
        self.norm = RMSNorm(shape.hidden_size, shape.rms_norm_eps)

    def forward(self, ids: Tensor) -> Tensor:
        """Final hidden states `[batch, n, width]` of `ids [batch, n]`."""
        x = self.embed_tokens(ids)
        cos, sin = rotary(torch.arange(ids.shape[1])[None], self.shape)
        for layer in stack(self.layers):
            h = layer.input_layernorm(x)
            k, v = layer.self_attn.keys_values(h, cos, sin)
            x = x + layer.self_attn(h, cos, sin, k, v, None)
            x = x + layer.mlp(layer.post_attention_layernorm(x))
        out: Tensor = self.norm(x)
        return out


class Target(nn.Module):
    """Qwen3 with a tied head. State-dict keys are those of `Qwen3ForCausalLM`."""

    def __init__(self, shape: Shape = SHAPE) -> None:
        super().__init__()
        self.shape = shape
        self.model = TargetBody(shape)
        initialise(self, shape.num_hidden_layers)

    def logits(self, hidden: Tensor) -> Tensor:
        return functional.linear(hidden, self.model.embed_tokens.weight)


def config(shape: Shape) -> dict[str, object]:
    """`config.json` of the target."""
    return {
        "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", **asdict(shape), "hidden_act": "silu",
        "attention_bias": False, "attention_dropout": 0.0, "tie_word_embeddings": True, "torch_dtype": "float32",
        "bos_token_id": None, "eos_token_id": IM_END, "pad_token_id": END_OF_TEXT,
        "use_sliding_window": False, "sliding_window": None, "rope_scaling": None,
    }
