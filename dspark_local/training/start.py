"""A drafter that exists, as the start of another: from a GGUF file or from a checkpoint folder."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from dspark_local.convert.checkpoint import Checkpoint
from dspark_local.convert.families.dspark import QWEN3_DRAFT
from dspark_local.errors import UsageError
from dspark_local.formats.dflash import read_draft_spec
from dspark_local.formats.gguf import GGUF
from dspark_local.training.design import Design, Shape

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from typing import Any

    from dspark_local.backend.base import Floats

_HEADS = ("embed_tokens.weight", "lm_head.weight")  # where a checkpoint repeats the target's, they stay the target's


@dataclass(frozen=True, slots=True, eq=False)
class Start:
    """Its design, and its weights by the names of a checkpoint; None: those of a drafter that has yet to learn."""

    design: Design
    weights: Mapping[str, Floats] | None = None


def read_start(path: Path, of: Design) -> Start:
    """A drafter of the same target as `of`. Raises UsageError for one that cannot be trained on, ModelError."""
    found = _from_checkpoint(path) if path.is_dir() else _from_gguf(path)
    for what in ("hidden_size", "vocab_size"):
        theirs, ours = getattr(found.design.shape, what), getattr(of.shape, what)
        if theirs != ours:
            raise UsageError(f"{path.name} is no drafter of this target: its {what} is {theirs}, the target's {ours}")
    if max(found.design.taps) >= of.num_target_layers:
        raise UsageError(f"{path.name} is no drafter of this target: it taps layers that the target lacks")
    return found


def _from_gguf(path: Path) -> Start:
    file = GGUF.open(path)
    spec = read_draft_spec(file)
    for refused, what in (
        (not spec.has_markov or not spec.has_confidence_head, "lacks the Markov or the confidence head"),
        (spec.owns_head or spec.owns_embedding or spec.has_d2t, "has a head or an embedding of its own"),
        (not spec.sample_from_anchor or spec.causal, "drafts blocks of another kind"),
        ("blk.0.post_ffw_norm.weight" in file.tensors, "has layers of Gemma's kind"),
    ):
        if refused:
            raise UsageError(f"{path.name} {what}; such drafters cannot be fine-tuned yet")
    design = Design(
        shape=Shape(
            hidden_size=spec.n_embd,
            intermediate_size=_number(file, "feed_forward_length"),
            num_hidden_layers=spec.n_layer,
            num_attention_heads=_number(file, "attention.head_count"),
            num_key_value_heads=_number(file, "attention.head_count_kv"),
            head_dim=_number(file, "attention.key_length"),
            rms_norm_eps=float(str(file.meta("dflash.attention.layer_norm_rms_epsilon"))),
            rope_theta=float(str(file.meta("dflash.rope.freq_base"))),
            vocab_size=spec.vocab_size,
            max_position_embeddings=_number(file, "context_length"),
        ),
        num_target_layers=max(spec.target_layers) + 1,
        target_layer_ids=tuple(i - 1 for i in spec.target_layers),
        block_size=spec.block_size,
        markov_rank=spec.markov_rank,
        mask_token_id=spec.mask_token,
    )
    names = {row.theirs: row.ours for row in QWEN3_DRAFT.root}
    for i in range(spec.n_layer):
        names |= {f"layers.{i}.{row.theirs}": f"blk.{i}.{row.ours}" for row in QWEN3_DRAFT.layer}
    weights = {}
    for theirs, ours in names.items():
        rows = file.rows(ours, slice(None))
        weights[theirs] = rows.reshape(file.tensors[ours].shape[::-1])
    return Start(design, weights)


def _from_checkpoint(folder: Path) -> Start:
    checkpoint = Checkpoint(folder)
    config = checkpoint.config
    if config.get("architectures") != ["Qwen3DSparkModel"]:
        raise UsageError(f"{folder} holds {config.get('architectures')}; only Qwen3DSparkModel can be fine-tuned yet")
    try:
        design = design_of(config)
    except KeyError as missing:
        raise UsageError(f"{folder}/config.json lacks {missing}") from None
    return Start(design, {name: checkpoint.read(name) for name in checkpoint.tensors if name not in _HEADS})


def design_of(config: Mapping[str, Any]) -> Design:
    """The design that a drafter's config.json tells. Raises KeyError for what it does not."""
    own = {f.name: config[f.name] for f in fields(Design) if f.name not in ("shape", "target_layer_ids")}
    shape = Shape(**{f.name: config[f.name] for f in fields(Shape)})
    return Design(shape=shape, target_layer_ids=tuple(config["target_layer_ids"]), **own)


def _number(file: GGUF, key: str) -> int:
    value = file.meta(f"dflash.{key}")
    if not isinstance(value, int):
        raise UsageError(f"{file.path.name} does not say dflash.{key}")
    return value
