"""What drafter a target gets: its shape, which layers it taps, the token that fills a block. Read from the GGUF."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dspark_local.errors import UsageError
from dspark_local.formats.vocab import MASK_ID, TOKENS, vocab_size

if TYPE_CHECKING:
    from dspark_local.formats.gguf import GGUF

BLOCK, RANK = 7, 256  # γ and Markov rank of DeepSpec's config/dspark
_MOST_LAYERS, _MOST_TAPS = 5, 5  # those of dspark_qwen3_4b
_DEEP = 10  # layers from which on the first tap leaves one layer out and the last leaves three, as DeepSpec's do
_CONTROL, _UNUSED = 3, 5  # token types of llama.cpp
_ENDS = ("bos", "eos", "eot", "eom", "padding", "unknown", "fim_pre", "fim_suf", "fim_mid")
_SPARE = ("unused", "reserved", "[pad", "extra_id")


@dataclass(frozen=True, slots=True)
class Shape:
    """A stack of layers of the Qwen3 kind; the names are those of its config.json."""

    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    rms_norm_eps: float
    rope_theta: float
    vocab_size: int
    max_position_embeddings: int


@dataclass(frozen=True, slots=True)
class Design:
    """A drafter [P §3]: its own layers, and what makes it one.

    A layer id i of `target_layer_ids` taps the *output* of layer i of the target's `num_target_layers`; the last
    layer's is never among them.
    """

    shape: Shape
    num_target_layers: int
    target_layer_ids: tuple[int, ...]
    block_size: int
    markov_rank: int
    mask_token_id: int

    @property
    def rows(self) -> tuple[int, ...]:
        """Lengths of the rows of its matrices."""
        shape = self.shape
        inner = shape.num_attention_heads * shape.head_dim
        taps = len(self.target_layer_ids) * shape.hidden_size
        ends = (self.markov_rank, shape.hidden_size + self.markov_rank)
        return (taps, shape.hidden_size, inner, shape.intermediate_size, *ends)

    @property
    def taps(self) -> tuple[int, ...]:
        """The same layers by the index of the layer whose input they are, as the backend counts."""
        return tuple(i + 1 for i in self.target_layer_ids)


def design(
    target: GGUF,
    *,
    depth: int | None = None,
    layers: tuple[int, ...] | None = None,
    block_size: int = BLOCK,
    rank: int | None = None,
    mask: int | None = None,
) -> Design:
    """A drafter of the target's width, heads and feed-forward size; what is not given is chosen by its depth.

    Raises UsageError for what does not fit the target.
    """
    n_layer = _number(target, "block_count")
    if n_layer < 2:  # noqa: PLR2004 - the output of the last layer is not to be had
        raise UsageError(f"{target.path.name} has {n_layer} layer; there is nothing to tap below its last")
    tapped = default_taps(n_layer) if layers is None else layers
    if not tapped or len(set(tapped)) < len(tapped) or not 0 <= min(tapped) <= max(tapped) < n_layer - 1:
        raise UsageError(f"tapped layers lie between 0 and {n_layer - 2}, each once; not {list(tapped)}")
    n_embd, heads = _number(target, "embedding_length"), _number(target, "attention.head_count")
    shape = Shape(
        hidden_size=n_embd,
        intermediate_size=_number(target, "feed_forward_length", 4 * n_embd),
        num_hidden_layers=default_depth(n_layer) if depth is None else depth,
        num_attention_heads=heads,
        num_key_value_heads=_number(target, "attention.head_count_kv", heads),
        head_dim=_number(target, "attention.key_length", n_embd // heads),
        rms_norm_eps=_real(target, "attention.layer_norm_rms_epsilon", 1e-6),
        rope_theta=_real(target, "rope.freq_base", 10000.0),
        vocab_size=vocab_size(target),
        max_position_embeddings=_number(target, "context_length"),
    )
    return Design(
        shape=shape,
        num_target_layers=n_layer,
        target_layer_ids=tuple(tapped),
        block_size=block_size,
        markov_rank=max(32, min(RANK, n_embd // 128 * 32)) if rank is None else rank,
        mask_token_id=default_mask(target) if mask is None else _within(mask, shape.vocab_size),
    )


def default_depth(n_layer: int) -> int:
    """Five layers for a target of fifteen and more, a third of its layers below that."""
    return max(1, min(_MOST_LAYERS, n_layer // 3))


def default_taps(n_layer: int) -> tuple[int, ...]:
    """Up to five outputs, evenly apart: 1, 9, 17, 25, 33 of 36 layers, as DeepSpec has it; 0, 2, 4 of 6."""
    first, last = (1, n_layer - 3) if n_layer >= _DEEP else (0, n_layer - 2)
    count = max(1, min(_MOST_TAPS, n_layer // 2))
    step = (last - first) / max(1, count - 1)
    return tuple(round(first + i * step) for i in range(count))


def default_mask(target: GGUF) -> int:
    """A token that no text holds: the file's own mask, one called so, one that is unused. Raises UsageError."""
    said = target.meta(MASK_ID)
    if isinstance(said, int):
        return said
    kinds = target.meta("tokenizer.ggml.token_type")
    taken = {target.meta(f"tokenizer.ggml.{name}_token_id") for name in _ENDS}
    spare: list[tuple[int, int]] = []
    typed = zip(target.strings(TOKENS), kinds if isinstance(kinds, tuple) else (), strict=False)
    for i, (raw, kind) in enumerate(typed):
        if kind not in (_CONTROL, _UNUSED) or i in taken:
            continue
        name = raw.decode(errors="replace").lower()
        if "mask" in name:
            return i
        if kind == _UNUSED or any(word in name for word in _SPARE):
            spare.append((int(kind == _UNUSED), i))
    if spare:
        return max(spare)[1]
    padding, end = target.meta("tokenizer.ggml.padding_token_id"), target.meta("tokenizer.ggml.eos_token_id")
    if isinstance(padding, int) and padding != end:
        return padding
    raise UsageError(f"{target.path.name} has no token to spare; name one that no text holds: --mask-token ID")


def _within(token: int, n_vocab: int) -> int:
    if not 0 <= token < n_vocab:
        raise UsageError(f"the mask must be one of the {n_vocab} tokens, not {token}")
    return token


def _number(target: GGUF, key: str, default: int | None = None) -> int:
    value = target.meta(f"{target.arch}.{key}")
    if isinstance(value, tuple):  # some architectures say it layer by layer
        value = max((v for v in value if isinstance(v, int)), default=0)
    if isinstance(value, int) and value > 0:
        return value
    if default is None:
        raise UsageError(f"{target.path.name} does not say {target.arch}.{key}; no drafter can be made for it")
    return default


def _real(target: GGUF, key: str, default: float) -> float:
    value = target.meta(f"{target.arch}.{key}")
    return float(value) if isinstance(value, (int, float)) else default
