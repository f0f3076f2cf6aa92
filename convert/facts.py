"""What a checkpoint folder is, in words, and whether it can be converted."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from dspark_local.convert.checkpoint import Checkpoint
from dspark_local.convert.families import draft_family, target_family
from dspark_local.convert.packed.schemes import scheme_of
from dspark_local.convert.tokenizers.vocabulary import read_vocabulary
from dspark_local.errors import ConvertError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dspark_local.convert.family import Family

Fact = tuple[str, str]


def checkpoint_facts(folder: Path) -> list[Fact]:
    """Architecture, sizes, types, tokenizer, and what `convert` would say. Raises ConvertError for no checkpoint."""
    return list(_facts(Checkpoint(Path(folder))))


def _facts(checkpoint: Checkpoint) -> Iterator[Fact]:
    named = checkpoint.config.get("architectures")
    yield "architecture", str(named[0]) if isinstance(named, list) and named else "not named"
    nbytes: Counter[str] = Counter()
    for stored in checkpoint.tensors.values():
        nbytes[stored.dtype] += stored.end - stored.begin
    files = {stored.path for stored in checkpoint.tensors.values()}
    total = sum(nbytes.values())
    yield "size", f"{total / 1e9:.3g} GB in {len(checkpoint.tensors)} tensors, {len(files)} files"
    yield "types", ", ".join(f"{name} {100 * n / max(1, total):.0f} %" for name, n in nbytes.most_common())
    if missing := sorted(set(checkpoint.absent.values())):
        yield "missing", f"{missing[0]}{f' and {len(missing) - 1} more shards' * (len(missing) > 1)}"
    family, what = _family(checkpoint)
    if family is None:
        yield "convert", what
        return
    try:
        config = family.config(checkpoint)
        yield "layers", f"{config.layers} of width {config.count('hidden_size')}"
        yield "context", f"{config.count('max_position_embeddings')} tokens"
        if scheme := scheme_of(checkpoint):
            yield "weights", f"packed ({type(scheme).__name__}); codes of 4 bits are kept as they are"
        if what == "target":
            vocabulary = read_vocabulary(checkpoint, config.count("vocab_size"), family.tokenizer)
            pieces = vocabulary.pieces
            yield "tokenizer", f"{pieces.model}, pre-tokenizer {pieces.pre or 'none'}, {len(pieces.tokens)} tokens"
            template = vocabulary.chat_template
            yield "chat template", f"{len(template)} characters" if template else "none"
        family.check(config)
        yield "convert", f"`dspark-local convert {what}` makes a GGUF of architecture {family.arch} of it"
    except ConvertError as error:
        yield "convert", str(error)


def _family(checkpoint: Checkpoint) -> tuple[Family | None, str]:
    try:
        return target_family(checkpoint), "target"
    except ConvertError as unknown:
        try:
            return draft_family(checkpoint), "draft"
        except ConvertError as error:
            return None, str(error) if " is a" in str(error) else str(unknown)
