"""What families share: tensor names as tables, shapes from the config, and the guards between them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from dspark_local.convert.quantise import Type, type_of
from dspark_local.convert.writer import Planned
from dspark_local.errors import ConvertError

if TYPE_CHECKING:
    from gguf import GGUFWriter

    from dspark_local.convert.checkpoint import Checkpoint

Shape = tuple[int, ...]
Names = dict[str, tuple[str, Shape]]  # checkpoint name → GGUF name, shape in rows first

_LAYER = {
    "input_layernorm": ("attn_norm", "hidden"),
    "self_attn.q_proj": ("attn_q", "q hidden"),
    "self_attn.k_proj": ("attn_k", "kv hidden"),
    "self_attn.v_proj": ("attn_v", "kv hidden"),
    "self_attn.o_proj": ("attn_output", "hidden q"),
    "self_attn.q_norm": ("attn_q_norm", "head"),
    "self_attn.k_norm": ("attn_k_norm", "head"),
    "post_attention_layernorm": ("ffn_norm", "hidden"),
    "mlp.gate_proj": ("ffn_gate", "ffn hidden"),
    "mlp.up_proj": ("ffn_up", "ffn hidden"),
    "mlp.down_proj": ("ffn_down", "hidden ffn"),
}


def number(checkpoint: Checkpoint, key: str) -> int:
    """A positive whole number of config.json. Raises ConvertError."""
    value = checkpoint.config.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ConvertError(f"{checkpoint.folder}/config.json: {key} must be a positive number, not {value!r}")
    return value


def head_dim(checkpoint: Checkpoint) -> int:
    """Width of an attention head."""
    if checkpoint.config.get("head_dim"):
        return number(checkpoint, "head_dim")
    return number(checkpoint, "hidden_size") // number(checkpoint, "num_attention_heads")


def layers(checkpoint: Checkpoint) -> Names:
    """Tensors of all layers of the Qwen3 kind, `layers.N.` before them."""
    head = head_dim(checkpoint)
    sizes = {
        "hidden": number(checkpoint, "hidden_size"),
        "ffn": number(checkpoint, "intermediate_size"),
        "head": head,
        "q": head * number(checkpoint, "num_attention_heads"),
        "kv": head * number(checkpoint, "num_key_value_heads"),
    }
    return {
        f"layers.{i}.{theirs}.weight": (f"blk.{i}.{ours}.weight", tuple(sizes[size] for size in shape.split()))
        for i in range(number(checkpoint, "num_hidden_layers"))
        for theirs, (ours, shape) in _LAYER.items()
    }


def hyperparameters(writer: GGUFWriter, checkpoint: Checkpoint) -> None:
    """Keys of a transformer of the Qwen3 kind."""
    config = checkpoint.config
    writer.add_context_length(number(checkpoint, "max_position_embeddings"))
    writer.add_embedding_length(number(checkpoint, "hidden_size"))
    writer.add_block_count(number(checkpoint, "num_hidden_layers"))
    writer.add_feed_forward_length(number(checkpoint, "intermediate_size"))
    writer.add_head_count(number(checkpoint, "num_attention_heads"))
    writer.add_head_count_kv(number(checkpoint, "num_key_value_heads"))
    writer.add_key_length(head_dim(checkpoint))
    writer.add_value_length(head_dim(checkpoint))
    writer.add_layer_norm_rms_eps(real(checkpoint, "rms_norm_eps", config.get("rms_norm_eps")))
    rope = config.get("rope_parameters") or {}
    writer.add_rope_freq_base(real(checkpoint, "rope_theta", rope.get("rope_theta", config.get("rope_theta"))))


def real(checkpoint: Checkpoint, key: str, value: Any) -> float:  # noqa: ANN401 - whatever a config holds
    """A positive number of config.json. Raises ConvertError."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < float("inf"):
        raise ConvertError(f"{checkpoint.folder}/config.json: {key} must be a positive number, not {value!r}")
    return float(value)


def refuse_unknown(checkpoint: Checkpoint) -> None:
    """Raise ConvertError for what changes the function and is not converted: rope scaling, biases, windows, GELU."""
    config = checkpoint.config
    scaling = config.get("rope_scaling") or {}
    kind = (config.get("rope_parameters") or scaling).get("rope_type", scaling.get("type", "default"))
    if kind != "default":
        raise ConvertError(f"{checkpoint.folder}: rope scaling of type {kind!r} is not converted yet")
    for key in ("attention_bias", "use_sliding_window"):
        if config.get(key):
            raise ConvertError(f"{checkpoint.folder}: {key} is not converted yet")
    if config.get("hidden_act", "silu") != "silu":
        raise ConvertError(f"{checkpoint.folder}: hidden_act {config['hidden_act']!r} is not converted yet")


def plan(checkpoint: Checkpoint, names: Names, kind: Type, *, ignored: frozenset[str] = frozenset()) -> list[Planned]:
    """What to write, in the table's order.

    Raises ConvertError when the checkpoint lacks a tensor of the table, has one beyond it that is not in `ignored`,
    or one of another shape than its config says.
    """
    have = {name.removeprefix("model."): name for name in checkpoint.tensors}
    if len(have) != len(checkpoint.tensors):
        raise ConvertError(f"{checkpoint.folder} has a tensor both with `model.` before its name and without")
    if missing := sorted(names.keys() - have):
        raise ConvertError(f"{checkpoint.folder} lacks {_some(missing)}; the checkpoint is not whole")
    if extra := sorted(have.keys() - names - ignored):
        raise ConvertError(f"{checkpoint.folder} has {_some(extra)}, which this family does not know")
    planned = []
    for theirs, (ours, shape) in names.items():
        stored = checkpoint.tensors[have[theirs]]
        if stored.shape != shape:
            raise ConvertError(f"{theirs} has shape {list(stored.shape)}, and config.json says {list(shape)}")
        planned.append(Planned(ours, shape, type_of(ours, shape, kind), partial(checkpoint.read, have[theirs])))
    return planned


def _some(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more tensors"
