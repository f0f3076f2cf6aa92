"""What a family of models is: its tensors as tables, its keys, and what it refuses; and what families share."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from dspark_local.convert.config import Config

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gguf import GGUFWriter

    from dspark_local.convert.checkpoint import Checkpoint, Floats

Sizes = dict[str, int]

# Before the names of the text model's tensors, the longest first; and parts of a model that do not write text.
_PREFIXES = ("model.language_model.", "language_model.model.", "language_model.", "model.")
_OTHER_PARTS = ("vision_tower.", "multi_modal_projector.", "embed_vision.", "audio_tower.", "embed_audio.")
_DERIVED = (".rotary_emb.inv_freq",)  # what older exports hold though it follows from the config


def bare_name(name: str) -> str | None:
    """A tensor's name in the tables; None for parts of a model that do not write text."""
    bare = next((name.removeprefix(p) for p in _PREFIXES if name.startswith(p)), name)
    return None if bare.startswith(_OTHER_PARTS) or bare.endswith(_DERIVED) else bare


@dataclass(frozen=True, slots=True)
class Row:
    """One tensor of a table: the checkpoint's name, GGUF's, the sizes of its shape by name, rows first.

    A name with an asterisk stands for one tensor a number, which lie in GGUF's one behind the other; the first size
    counts them. `when` names the flag of config.json with which it is there; `turn` says what must be done to its rows.
    """

    theirs: str
    ours: str
    shape: str
    when: str = ""
    turn: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """A kind of model: config.json's `architectures`, llama.cpp's `arch`, and how one becomes the other.

    `layer` is the table of one layer, `root` what this family has beside embedding, head and last norm; `defaults` are
    values that published configs leave out; `keys` writes what this family has beyond the common keys; `check` refuses
    what changes the function and is not converted; `computed` gives tensors that no checkpoint holds, `unused` names
    some that one may hold for nothing; `sizes` are those of a layer, 0 for what it lacks; `shifted_norms` are stored
    less 1; `tied` is what tie_word_embeddings means where it is missing; `tokenizer` is "", or the name of one that
    only this family has; `bare` and `settings` turn names and config.json into the words of the tables.
    """

    arch: str
    architectures: tuple[str, ...]
    layer: tuple[Row, ...]
    keys: Callable[[GGUFWriter, Config], None]
    check: Callable[[Config], None]
    defaults: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    computed: Callable[[Config], dict[str, Floats]] = lambda _config: {}
    root: tuple[Row, ...] = ()
    sizes: Callable[[Config, int], Sizes] = lambda config, _layer: sizes(config)
    unused: Callable[[Config], frozenset[str]] = lambda _config: frozenset()
    shifted_norms: bool = False
    tied: bool = False
    tokenizer: str = ""
    bare: Callable[[str], str | None] = bare_name
    settings: Callable[[Checkpoint], Mapping[str, Any]] = lambda checkpoint: checkpoint.config

    def config(self, checkpoint: Checkpoint) -> Config:
        """The checkpoint's config as this family reads it."""
        return Config(checkpoint.folder / "config.json", self.settings(checkpoint), self.defaults)


# The layer that Llama made common: two norms, four projections, SwiGLU.
ATTENTION = (
    Row("self_attn.q_proj.weight", "attn_q.weight", "q hidden"),
    Row("self_attn.k_proj.weight", "attn_k.weight", "kv hidden"),
    Row("self_attn.v_proj.weight", "attn_v.weight", "kv hidden"),
    Row("self_attn.o_proj.weight", "attn_output.weight", "hidden q"),
)
HEAD_NORMS = (
    Row("self_attn.q_norm.weight", "attn_q_norm.weight", "head", turn="norm"),
    Row("self_attn.k_norm.weight", "attn_k_norm.weight", "head", turn="norm"),
)
FFN = (
    Row("mlp.gate_proj.weight", "ffn_gate.weight", "ffn hidden"),
    Row("mlp.up_proj.weight", "ffn_up.weight", "ffn hidden"),
    Row("mlp.down_proj.weight", "ffn_down.weight", "hidden ffn"),
)
NORMS = (
    Row("input_layernorm.weight", "attn_norm.weight", "hidden", turn="norm"),
    Row("post_attention_layernorm.weight", "ffn_norm.weight", "hidden", turn="norm"),
)
SANDWICH_NORMS = (  # Gemma: one before and one after either half
    Row("input_layernorm.weight", "attn_norm.weight", "hidden", turn="norm"),
    Row("post_attention_layernorm.weight", "post_attention_norm.weight", "hidden", turn="norm"),
    Row("pre_feedforward_layernorm.weight", "ffn_norm.weight", "hidden", turn="norm"),
    Row("post_feedforward_layernorm.weight", "post_ffw_norm.weight", "hidden", turn="norm"),
)
EMBEDDING = Row("embed_tokens.weight", "token_embd.weight", "vocab hidden")
HEAD = Row("lm_head.weight", "output.weight", "vocab hidden")
LAST_NORM = Row("norm.weight", "output_norm.weight", "hidden", turn="norm")


def sizes(config: Config) -> Sizes:
    """Numbers that shapes are made of, by their names in the tables."""
    head = config.head_dim
    return {
        "one": 1,
        "vocab": config.count("vocab_size"),
        "hidden": config.count("hidden_size"),
        "ffn": config.count("intermediate_size"),
        "head": head,
        "q": head * config.count("num_attention_heads"),
        "kv": head * config.count("num_key_value_heads", config.count("num_attention_heads")),
    }


def hyperparameters(writer: GGUFWriter, config: Config) -> None:
    """Keys that every transformer has."""
    heads, kv = (
        config.count("num_attention_heads"),
        config.count("num_key_value_heads", config.count("num_attention_heads")),
    )
    if heads % kv:
        raise config.fault(f"{heads} attention heads cannot share num_key_value_heads {kv}")
    writer.add_context_length(config.count("max_position_embeddings"))
    writer.add_embedding_length(config.count("hidden_size"))
    writer.add_block_count(config.layers)
    writer.add_feed_forward_length(config.count("intermediate_size"))
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_layer_norm_rms_eps(config.real("rms_norm_eps"))


def forget(writer: GGUFWriter, *keys: str) -> None:
    """Take common keys back, for a family that has them otherwise."""
    for key in keys:
        del writer.kv_data[0][f"{writer.arch}.{key}"]


def refuse(config: Config, *flags: str, act: tuple[str, ...] = ("silu",)) -> None:
    """Raise ConvertError if one of `flags` is on, or the activation is none of `act`."""
    for flag in flags:
        if config.get(flag):
            raise config.fault(f"{flag} is not converted yet")
    given = config.get("hidden_activation", config.get("hidden_act", act[0]))
    if given not in act:
        raise config.fault(f"hidden_act {given!r} is not converted yet")
