"""A DSpark drafter in torch, with the key names of its checkpoints.

It follows llama.cpp's `dflash` graph: what is computed here is what the engine computes.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dspark_local.training.design import Design, Shape


class RMSNorm(nn.Module):
    """Root mean square norm, with a gain."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Normed `x [..., width]`."""
        return functional.rms_norm(x, self.weight.shape, self.weight, self.eps)


def rotary(positions: Tensor, shape: Shape) -> tuple[Tensor, Tensor]:
    """Cosine and sine, each `[..., 1, head_dim]`, for integer `positions` of any shape."""
    half = torch.arange(0, shape.head_dim, 2, dtype=torch.float32, device=positions.device) / shape.head_dim
    angle = positions[..., None].float() * shape.rope_theta**-half
    angle = torch.cat((angle, angle), dim=-1)[..., None, :]
    return angle.cos(), angle.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn the pairs (i, i + d/2) of `x [..., heads, d]`."""
    first, second = x.chunk(2, dim=-1)
    return x * cos.to(x.dtype) + torch.cat((-second, first), dim=-1) * sin.to(x.dtype)


class Attention(nn.Module):
    """Grouped queries, normed heads, rotary positions."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        width, heads, kv_heads, size = (
            shape.hidden_size, shape.num_attention_heads, shape.num_key_value_heads, shape.head_dim,
        )  # fmt: skip
        self.q_proj = nn.Linear(width, heads * size, bias=False)
        self.k_proj = nn.Linear(width, kv_heads * size, bias=False)
        self.v_proj = nn.Linear(width, kv_heads * size, bias=False)
        self.o_proj = nn.Linear(heads * size, width, bias=False)
        self.q_norm = RMSNorm(size, shape.rms_norm_eps)
        self.k_norm = RMSNorm(size, shape.rms_norm_eps)

    def keys_values(self, x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
        """Rotated keys and values of `x [batch, n, width]`, each `[batch, kv_heads, n, head_dim]`."""
        k = self.k_norm(self.k_proj(x).unflatten(-1, (-1, self.shape.head_dim)))
        v = self.v_proj(x).unflatten(-1, (-1, self.shape.head_dim))
        return rotate(k, cos, sin).transpose(1, 2), v.transpose(1, 2)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        """Attend from `x` to the given keys and values: where `mask` is true, or causally if it is None."""
        q = self.q_norm(self.q_proj(x).unflatten(-1, (-1, self.shape.head_dim)))
        q = rotate(q, cos, sin).transpose(1, 2)
        out = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None, enable_gqa=True)
        attended: Tensor = self.o_proj(out.transpose(1, 2).flatten(2))
        return attended


class FeedForward(nn.Module):
    """SwiGLU."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(shape.hidden_size, shape.intermediate_size, bias=False)
        self.up_proj = nn.Linear(shape.hidden_size, shape.intermediate_size, bias=False)
        self.down_proj = nn.Linear(shape.intermediate_size, shape.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """`x [..., width]` to the same shape."""
        out: Tensor = self.down_proj(functional.silu(self.gate_proj(x)) * self.up_proj(x))
        return out


class Layer(nn.Module):
    """What a layer holds; who uses it runs it."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.self_attn = Attention(shape)
        self.mlp = FeedForward(shape)
        self.input_layernorm = RMSNorm(shape.hidden_size, shape.rms_norm_eps)
        self.post_attention_layernorm = RMSNorm(shape.hidden_size, shape.rms_norm_eps)


def stack(layers: nn.ModuleList) -> Iterator[Layer]:
    """The layers in order, with their type."""
    for layer in layers:
        assert isinstance(layer, Layer)
        yield layer


class MarkovHead(nn.Module):
    """Low-rank bias of a slot's logits by the token before it: W2·W1[previous] [P §3.1]."""

    def __init__(self, vocab: int, rank: int) -> None:
        super().__init__()
        self.markov_w1 = nn.Embedding(vocab, rank)
        self.markov_w2 = nn.Linear(rank, vocab, bias=False)


class ConfidenceHead(nn.Module):
    """Logit of the chance that a drafted token is accepted [P §3.2.1]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Linear(width, 1)


class Drafter(nn.Module):
    """DSpark: a few layers over injected target states, a Markov head and a confidence head.

    State-dict keys are those of DeepSpec's `Qwen3DSparkModel`; embedding and head are the target's and not kept here.
    """

    def __init__(self, design: Design) -> None:
        super().__init__()
        self.design = design
        shape, width = design.shape, design.shape.hidden_size
        self.fc = nn.Linear(len(design.target_layer_ids) * width, width, bias=False)
        self.hidden_norm = RMSNorm(width, shape.rms_norm_eps)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.num_hidden_layers))
        self.norm = RMSNorm(width, shape.rms_norm_eps)
        self.markov_head = MarkovHead(shape.vocab_size, design.markov_rank)
        self.confidence_head = ConfidenceHead(width + design.markov_rank)
        initialise(self, shape.num_hidden_layers)
        nn.init.zeros_(self.markov_head.markov_w2.weight)

    def hidden(self, block: Tensor, block_positions: Tensor, taps: Tensor, mask: Tensor) -> Tensor:
        """Final hidden states of the drafted rows, `[batch, m, width]`.

        `block [batch, m, width]` are embeddings of anchors and masks at `block_positions [batch, m]`; `taps [batch, n,
        taps·width]` the target's tapped states at positions 0…n−1; `mask [batch, 1, m, n+m]` is true where a row
        sees a key. Injected states meet `hidden_norm` only, the block's own meet each layer's input norm.
        """
        context = self.hidden_norm(self.fc(taps))
        context_angles = rotary(torch.arange(taps.shape[1], device=taps.device)[None], self.design.shape)
        cos, sin = rotary(block_positions, self.design.shape)
        x = block
        for layer in stack(self.layers):
            h = layer.input_layernorm(x)
            k_context, v_context = layer.self_attn.keys_values(context, *context_angles)
            k, v = layer.self_attn.keys_values(h, cos, sin)
            k, v = torch.cat((k_context, k), dim=2), torch.cat((v_context, v), dim=2)
            x = x + layer.self_attn(h, cos, sin, k, v, mask)
            x = x + layer.mlp(layer.post_attention_layernorm(x))
        out: Tensor = self.norm(x)
        return out

    def markov(self, previous: Tensor) -> tuple[Tensor, Tensor]:
        """Rows of W1 and the logit bias W2·W1[previous]."""
        row = self.markov_head.markov_w1(previous)
        return row, self.markov_head.markov_w2(row)

    def confidence(self, hidden: Tensor, row: Tensor) -> Tensor:
        """Logit of the chance that the drafted token is accepted, given that all before it were [P §3.2.1]."""
        logit: Tensor = self.confidence_head.proj(torch.cat((hidden, row), dim=-1)).squeeze(-1)
        return logit


def initialise(module: nn.Module, depth: int) -> None:
    """Normal 0.02, and the projections back into the residual smaller by √(2·depth), as GPT-2 does."""
    for name, parameter in module.named_parameters():
        if parameter.ndim == 2:  # noqa: PLR2004 - a matrix
            scale = (2 * depth) ** -0.5 if name.endswith(("o_proj.weight", "down_proj.weight")) else 1.0
            nn.init.normal_(parameter, std=0.02 * scale)
        elif name.endswith("bias"):
            nn.init.zeros_(parameter)


def config(design: Design) -> dict[str, object]:
    """`config.json` of the drafter, in DeepSpec's schema."""
    return {
        "architectures": ["Qwen3DSparkModel"],
        "model_type": "qwen3",
        **asdict(design.shape),
        "hidden_act": "silu",
        "attention_bias": False,
        "tie_word_embeddings": False,
        "use_sliding_window": False,
        "rope_scaling": None,
        "layer_types": ["full_attention"] * design.shape.num_hidden_layers,
        "num_target_layers": design.num_target_layers,
        "target_layer_ids": list(design.target_layer_ids),
        "block_size": design.block_size,
        "mask_token_id": design.mask_token_id,
        "markov_rank": design.markov_rank,
        "markov_head_type": "vanilla",
        "enable_confidence_head": True,
        "confidence_head_with_markov": True,
    }
