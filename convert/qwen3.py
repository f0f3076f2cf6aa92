"""Dense Qwen3 targets (`Qwen3ForCausalLM`) to llama.cpp's architecture `qwen3`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dspark_local.convert import family
from dspark_local.convert.quantise import file_type
from dspark_local.convert.vocab import read_vocabulary
from dspark_local.convert.writer import write

if TYPE_CHECKING:
    from pathlib import Path

    from gguf import GGUFWriter

    from dspark_local.convert.checkpoint import Checkpoint
    from dspark_local.convert.quantise import Type
    from dspark_local.convert.writer import Progress

ARCHITECTURE = "Qwen3ForCausalLM"


def convert(checkpoint: Checkpoint, out: Path, kind: Type, progress: Progress | None) -> Path:
    """Write the target; its head only where it is not the embedding. Raises ConvertError."""
    family.refuse_unknown(checkpoint)
    tied = bool(checkpoint.config.get("tie_word_embeddings", False))
    vocab, hidden = family.number(checkpoint, "vocab_size"), family.number(checkpoint, "hidden_size")
    names: family.Names = {"embed_tokens.weight": ("token_embd.weight", (vocab, hidden))}
    if not tied:
        names["lm_head.weight"] = ("output.weight", (vocab, hidden))
    names["norm.weight"] = ("output_norm.weight", (hidden,))
    names |= family.layers(checkpoint)
    # exports of tied models sometimes repeat the embedding as a head
    ignored = frozenset({"lm_head.weight"}) if tied else frozenset[str]()
    tensors = family.plan(checkpoint, names, kind, ignored=ignored)
    vocabulary = read_vocabulary(checkpoint)

    def keys(writer: GGUFWriter) -> None:
        writer.add_name(checkpoint.folder.name)
        writer.add_file_type(file_type(kind))
        family.hyperparameters(writer, checkpoint)
        vocabulary.write(writer)

    return write(out, "qwen3", keys, tensors, progress)
