"""The two networks in plain torch: a Qwen3 target and a DSpark drafter, with the key names of their checkpoints.

The drafter follows llama.cpp's `dflash` graph: what is computed here is what the engine computes.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import torch
from tokenizer import END_OF_TEXT, IM_END, MASK, VOCAB_SIZE
from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, slots=True)
class Shape:
    """Dimensions of the pair. Heads are 2 : 1, the head size and the group ratio of Qwen3-0.6B and 1.7B."""

    hidden_size: int = 256
    intermediate_size: int = 768
    num_hidden_layers: int = 6
    num_attention_heads: int = 2
    num_key_value_heads: int = 1
    head_dim: int = 128
    rms_norm_eps: float = 1e-6
    rope_theta: float = 1e6
    vocab_size: int = VOCAB_SIZE
    max_position_embeddings: int = 2048


@dataclass(frozen=True, slots=True)
class DraftShape:
    """What DSpark adds [P §3]. A target layer id i taps the *output* of layer i; the last layer's is never used."""

    num_hidden_layers: int = 2
    block_size: int = 7
    target_layer_ids: tuple[int, ...] = (0, 2, 4)
    markov_rank: int = 64
    mask_token_id: int = MASK


class RMSNorm(nn.Module):
    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return functional.rms_norm(x, self.weight.shape, self.weight, self.eps)


def rotary(positions: Tensor, shape: Shape) -> tuple[Tensor, Tensor]:
    """Cosine and sine, each `[..., 1, head_dim]`, for integer `positions` of any shape."""
    half = torch.arange(0, shape.head_dim, 2, dtype=torch.float32) / shape.head_dim
    angle = positions[..., None].float() * shape.rope_theta**-half
    angle = torch.cat((angle, angle), dim=-1)[..., None, :]
    return angle.cos(), angle.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = x.chunk(2, dim=-1)
    return x * cos.to(x.dtype) + torch.cat((-second, first), dim=-1) * sin.to(x.dtype)


class Attention(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        width, heads, kv_heads, size = (
            shape.hidden_size, shape.num_attention_heads, shape.num_key_value_heads, shape.head_dim,
        )
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
        out = functional.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, is_causal=mask is None, enable_gqa=True
        )
        attended: Tensor = self.o_proj(out.transpose(1, 2).flatten(2))
        return attended


class FeedForward(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(shape.hidden_size, shape.intermediate_size, bias=False)
        self.up_proj = nn.Linear(shape.hidden_size, shape.intermediate_size, bias=False)
        self.down_proj = nn.Linear(shape.intermediate_size, shape.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.down_proj(functional.silu(self.gate_proj(x)) * self.up_proj(x))
        return out


class Layer(nn.Module):
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


@dataclass(slots=True)
class Cache:
    """Keys and values of one layer, `[batch, kv_heads, capacity, head_dim]`, at the index of their position."""

    k: Tensor
    v: Tensor

    @staticmethod
    def empty(shape: Shape, batch: int, capacity: int, dtype: torch.dtype) -> Cache:
        size = (batch, shape.num_key_value_heads, capacity, shape.head_dim)
        return Cache(torch.zeros(size, dtype=dtype), torch.zeros(size, dtype=dtype))


class TargetBody(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.embed_tokens = nn.Embedding(shape.vocab_size, shape.hidden_size)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.num_hidden_layers))
        self.norm = RMSNorm(shape.hidden_size, shape.rms_norm_eps)

    def forward(
        self, ids: Tensor, positions: Tensor | None = None, caches: list[Cache] | None = None,
        mask: Tensor | None = None,
    ) -> tuple[Tensor, list[Tensor]]:
        """Final hidden states `[batch, n, width]` and every layer's output, for `ids [batch, n]`.

        With `caches`, `positions [batch, n]` also say where the new keys go, and `mask` what may be seen.
        """
        x = self.embed_tokens(ids)
        cos, sin = rotary(torch.arange(ids.shape[1])[None] if positions is None else positions, self.shape)
        outputs: list[Tensor] = []
        for index, layer in enumerate(stack(self.layers)):
            h = layer.input_layernorm(x)
            k, v = layer.self_attn.keys_values(h, cos, sin)
            if caches is not None:
                assert positions is not None
                cache, rows = caches[index], torch.arange(ids.shape[0])[:, None]
                cache.k[rows, :, positions] = k.transpose(1, 2)
                cache.v[rows, :, positions] = v.transpose(1, 2)
                k, v = cache.k, cache.v
            x = x + layer.self_attn(h, cos, sin, k, v, mask)
            x = x + layer.mlp(layer.post_attention_layernorm(x))
            outputs.append(x)
        return self.norm(x), outputs


class Target(nn.Module):
    """Qwen3 with a tied head. State-dict keys are those of `Qwen3ForCausalLM`."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.model = TargetBody(shape)
        initialise(self, shape.num_hidden_layers)

    def logits(self, hidden: Tensor) -> Tensor:
        return functional.linear(hidden, self.model.embed_tokens.weight)


class MarkovHead(nn.Module):
    """Low-rank bias of a slot's logits by the token before it: W2·W1[previous] [P §3.1]."""

    def __init__(self, vocab: int, rank: int) -> None:
        super().__init__()
        self.markov_w1 = nn.Embedding(vocab, rank)
        self.markov_w2 = nn.Linear(rank, vocab, bias=False)


class ConfidenceHead(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Linear(width, 1)


class Drafter(nn.Module):
    """DSpark: a few layers over injected target states, a Markov head and a confidence head.

    State-dict keys are those of DeepSpec's `Qwen3DSparkModel`; embedding and head are the target's and not kept here.
    """

    def __init__(self, shape: Shape, draft: DraftShape) -> None:
        super().__init__()
        self.shape, self.draft = shape, draft
        width = shape.hidden_size
        self.fc = nn.Linear(len(draft.target_layer_ids) * width, width, bias=False)
        self.hidden_norm = RMSNorm(width, shape.rms_norm_eps)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(draft.num_hidden_layers))
        self.norm = RMSNorm(width, shape.rms_norm_eps)
        self.markov_head = MarkovHead(shape.vocab_size, draft.markov_rank)
        self.confidence_head = ConfidenceHead(width + draft.markov_rank)
        initialise(self, draft.num_hidden_layers)
        nn.init.zeros_(self.markov_head.markov_w2.weight)

    def hidden(self, block: Tensor, block_positions: Tensor, taps: Tensor, mask: Tensor) -> Tensor:
        """Final hidden states of the drafted rows, `[batch, m, width]`.

        `block [batch, m, width]` are embeddings of anchors and masks at `block_positions [batch, m]`; `taps [batch, n,
        taps·width]` the target's tapped states at positions 0…n−1; `mask [batch, 1, m, n+m]` is true where a row
        sees a key. Injected states meet `hidden_norm` only, the block's own meet each layer's input norm.
        """
        context = self.hidden_norm(self.fc(taps))
        context_angles = rotary(torch.arange(taps.shape[1])[None], self.shape)
        cos, sin = rotary(block_positions, self.shape)
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
        if parameter.ndim == 2:
            scale = (2 * depth) ** -0.5 if name.endswith(("o_proj.weight", "down_proj.weight")) else 1.0
            nn.init.normal_(parameter, std=0.02 * scale)
        elif name.endswith("bias"):
            nn.init.zeros_(parameter)


def target_config(shape: Shape) -> dict[str, object]:
    """`config.json` of the target."""
    return {
        "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", **asdict(shape), "hidden_act": "silu",
        "attention_bias": False, "attention_dropout": 0.0, "tie_word_embeddings": True, "torch_dtype": "float32",
        "bos_token_id": None, "eos_token_id": IM_END, "pad_token_id": END_OF_TEXT,
        "use_sliding_window": False, "sliding_window": None, "rope_scaling": None,
    }


def draft_config(shape: Shape, draft: DraftShape) -> dict[str, object]:
    """`config.json` of the drafter, in DeepSpec's schema."""
    own = asdict(draft)
    return {
        **target_config(shape), "architectures": ["Qwen3DSparkModel"], "num_target_layers": shape.num_hidden_layers,
        **own, "target_layer_ids": list(draft.target_layer_ids), "tie_word_embeddings": False,
        "layer_types": ["full_attention"] * draft.num_hidden_layers, "markov_head_type": "vanilla",
        "enable_confidence_head": True, "confidence_head_with_markov": True, "num_anchors": 512,
    }
