"""What families share: tensors as tables, shapes from the config, and the guards between them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from dspark_local.convert.config import Config
from dspark_local.convert.packed.bundles import find_bundles
from dspark_local.convert.quantise import type_of
from dspark_local.convert.writer import Planned, floats, values
from dspark_local.errors import ConvertError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gguf import GGUFWriter

    from dspark_local.convert.checkpoint import Checkpoint, Floats
    from dspark_local.convert.quantise import Type

Shape = tuple[int, ...]
Sizes = dict[str, int]
Read = Callable[[slice], Any]  # rows: floats, or blocks of codes
Tell = Callable[[str, str, float], None]  # name and type of a tensor, largest error in steps of its codes

# Before the names of the text model's tensors, the longest first; and parts of a model that do not write text.
_PREFIXES = ("model.language_model.", "language_model.model.", "language_model.", "model.")
_OTHER_PARTS = ("vision_tower.", "multi_modal_projector.", "embed_vision.", "audio_tower.", "embed_audio.")
_DERIVED = (".rotary_emb.inv_freq",)  # what older exports hold though it follows from the config


@dataclass(frozen=True, slots=True)
class Row:
    """One tensor of a table: the checkpoint's name, GGUF's, the sizes of its shape by name, rows first.

    `when` names the flag of config.json with which it is there; `turn` says what must be done to its rows.
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
    only this family has.
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

    def config(self, checkpoint: Checkpoint) -> Config:
        """The checkpoint's config as this family reads it."""
        return Config(checkpoint.folder / "config.json", checkpoint.config, self.defaults)


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


Table = dict[str, tuple[Row, str, Shape]]  # checkpoint name → row, GGUF name, shape


def table(family: Family, config: Config, root: tuple[Row, ...], known: Sizes) -> Table:
    """All tensors of a checkpoint: those of `root` by the sizes in `known`, then every layer's."""
    rows: Table = {row.theirs: (row, row.ours, _shape(row, known)) for row in root if _is_there(row, config, known)}
    for i in range(config.layers):
        known = family.sizes(config, i)
        for row in family.layer:
            if _is_there(row, config, known):
                rows[f"layers.{i}.{row.theirs}"] = (row, f"blk.{i}.{row.ours}", _shape(row, known))
    return rows


def _is_there(row: Row, config: Config, known: Sizes) -> bool:
    return (not row.when or config.flag(row.when)) and all(known[size] for size in row.shape.split())


def _shape(row: Row, known: Sizes) -> Shape:
    return tuple(known[size] for size in row.shape.split())


def plan(
    checkpoint: Checkpoint,
    family: Family,
    config: Config,
    rows: Table,
    kind: Type,
    *,
    ignored: frozenset[str] = frozenset(),
    tell: Tell = lambda _name, _kind, _error: None,
) -> list[Planned]:
    """What to write, in the table's order; `tell` hears of each tensor whose 4-bit codes are kept.

    Raises ConvertError when the checkpoint lacks a tensor of the table, has one beyond it that is not in `ignored`,
    or one of another shape than its config says.
    """
    bundles = find_bundles(checkpoint, named(checkpoint), rows)
    shapes = {name: checkpoint.tensors[stored].shape for name, stored in bundles.plain.items()}
    shapes |= {name: kept.shape for name, kept in bundles.kept.items()}
    match(checkpoint, {theirs: shape for theirs, (_, _, shape) in rows.items()}, shapes, ignored=ignored)
    planned = []
    for theirs, (row, ours, shape) in rows.items():
        if kept := bundles.kept.get(theirs):
            planned.append(Planned(ours, shape, kept.kind, _turned(row, family, config, kept.rows)))
            if kept.scale is not None:
                scale = np.array([kept.scale], np.float32)
                planned.append(values(ours.removesuffix("weight") + "scale", scale))
            tell(ours, kept.kind.name, kept.error)
        else:
            planned.append(_plain(checkpoint, family, config, row, (bundles.plain[theirs], ours), shape, kind))
    return planned


def _plain(
    checkpoint: Checkpoint, family: Family, config: Config, row: Row, names: tuple[str, str], shape: Shape, kind: Type
) -> Planned:
    """A tensor of floats: as its bits where its type stays and its numbers do, else read and encoded."""
    theirs, ours = names
    type_ = type_of(ours, shape, kind)
    shifted = row.turn == "norm" and family.shifted_norms
    if checkpoint.tensors[theirs].dtype == type_.name and not shifted:
        return Planned(ours, shape, type_, _turned(row, family, config, partial(checkpoint.same, theirs)))
    return floats(ours, shape, type_, _turned(row, family, config, partial(checkpoint.read, theirs)))


def named(checkpoint: Checkpoint) -> dict[str, str]:
    """Names of the tables → the checkpoint's, without the parts of a model that do not write text."""
    have: dict[str, str] = {}
    for name in checkpoint.tensors:
        bare = next((name.removeprefix(p) for p in _PREFIXES if name.startswith(p)), name)
        if bare.startswith(_OTHER_PARTS) or bare.endswith(_DERIVED):
            continue
        if bare in have:
            raise ConvertError(
                f"{checkpoint.folder} has a tensor both with `model.` before its name and without ({bare})"
            )
        have[bare] = name
    return have


def match(
    checkpoint: Checkpoint, shapes: dict[str, Shape], have: dict[str, Shape], *, ignored: frozenset[str] = frozenset()
) -> None:
    """Raise ConvertError unless what the checkpoint has are exactly these tensors, of these shapes."""
    if missing := sorted(shapes.keys() - have.keys()):
        raise ConvertError(f"{checkpoint.folder} lacks {_some(missing)}; the checkpoint is not whole")
    if extra := sorted(have.keys() - shapes.keys() - ignored):
        raise ConvertError(f"{checkpoint.folder} has {_some(extra)}, which this family does not know")
    for theirs, shape in shapes.items():
        if have[theirs] != shape:
            raise ConvertError(f"{theirs} has shape {list(have[theirs])}, and config.json says {list(shape)}")


def _some(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more tensors"


def _turned(row: Row, family: Family, config: Config, read: Read) -> Read:
    """`read`, followed by what the row's `turn` asks for."""
    if row.turn == "norm" and family.shifted_norms:
        return lambda rows: read(rows) + np.float32(1)
    if row.turn == "interleave":
        return partial(_by_head, read, config.head_dim, interleaved)
    if row.turn == "separate" and not config.flag("rope_is_neox_style", default=True):
        return partial(_by_head, read, config.head_dim, separated)
    return read


def _by_head(read: Callable[[slice], Any], head: int, turn: Callable[[Any, int], Any], rows: slice) -> Any:  # noqa: ANN401 - floats, codes or scales
    first, last = rows.start // head, -(-rows.stop // head)
    turned = turn(read(slice(first * head, last * head)), head)
    return turned[rows.start - first * head : rows.stop - first * head]


def interleaved(whole: Any, head: int) -> Any:  # noqa: ANN401 - as above
    """Rows whose rotary pairs (i, i + head/2) within a head come to stand side by side, as arch `llama` has them."""
    return whole.reshape(-1, 2, head // 2, *whole.shape[1:]).swapaxes(1, 2).reshape(whole.shape)


def separated(whole: Any, head: int) -> Any:  # noqa: ANN401 - as above
    """The reverse of `interleaved`."""
    return whole.reshape(-1, head // 2, 2, *whole.shape[1:]).swapaxes(1, 2).reshape(whole.shape)
