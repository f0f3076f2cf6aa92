"""The target as its drafter's converter sees it, from a checkpoint or from a GGUF: sizes, tokenizer, heads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np
from gguf import GGMLQuantizationType
from gguf.quants import dequantize, quantize

from dspark_local.convert.copying import copy_keys
from dspark_local.convert.families import target_family
from dspark_local.convert.plan import named
from dspark_local.convert.tokenizers.vocabulary import read_vocabulary
from dspark_local.errors import ConvertError
from dspark_local.formats.dflash import TAPS_LAST
from dspark_local.formats.gguf import GGUF

if TYPE_CHECKING:
    from pathlib import Path

    from gguf import GGUFWriter

    from dspark_local.convert.checkpoint import Checkpoint, Floats

EMBEDDING, HEAD = "token_embd.weight", "output.weight"
_EXACT = ("F32", "F16", "BF16")
_MASK = "tokenizer.ggml.mask_token_id"


class Target(Protocol):
    """Sizes are numbers of config.json, whichever file they come from.

    `taps_last`: llama.cpp gives what its last layer puts out.
    """

    name: str
    hidden_size: int
    vocab_size: int
    num_hidden_layers: int
    tied: bool
    taps_last: bool

    def write_tokenizer(self, writer: GGUFWriter, *, mask: int) -> None:
        """Add the target's tokenizer to a file, with `mask` as the token that fills a draft block."""

    def read(self, head: str, rows: slice) -> Floats:
        """Rows of its EMBEDDING or HEAD. Raises ModelError."""

    def holds(self, head: str, rows: slice, values: Floats) -> bool:
        """Whether these rows of its EMBEDDING or HEAD are `values`, in the precision that the target has.

        Raises ConvertError when that cannot be known.
        """


class CheckpointTarget:
    """A target from the folder it was published in."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        family = target_family(checkpoint)
        config = family.config(checkpoint)
        self._checkpoint, self._family = checkpoint, family
        self.taps_last = family.arch in TAPS_LAST
        self.tied = config.flag("tie_word_embeddings", default=family.tied)
        self.name = checkpoint.name
        self.hidden_size = config.count("hidden_size")
        self.vocab_size = config.count("vocab_size")
        self.num_hidden_layers = config.layers
        self._vocabulary = read_vocabulary(checkpoint, self.vocab_size, family.tokenizer)

    def write_tokenizer(self, writer: GGUFWriter, *, mask: int) -> None:
        """See Target."""
        self._vocabulary.write(writer, mask=mask)

    def read(self, head: str, rows: slice) -> Floats:
        """See Target."""
        name = "lm_head.weight" if head == HEAD and not self.tied else "embed_tokens.weight"
        have = named(self._checkpoint, self._family)
        if name not in have:
            raise ConvertError(f"{self._checkpoint.folder} lacks {name}; the checkpoint is not whole")
        return self._checkpoint.read(have[name], rows)

    def holds(self, head: str, rows: slice, values: Floats) -> bool:
        """See Target."""
        return np.array_equal(self.read(head, rows), values)


class GGUFTarget:
    """A target that is a GGUF file already, of any architecture. Its tokenizer is copied as it is."""

    def __init__(self, path: Path) -> None:
        self._gguf = GGUF.open(path)
        if self._gguf.arch == "dflash":
            raise ConvertError(f"{path} is a drafter; give the target it was trained for")
        self.name = path.name
        self.hidden_size = self._number("embedding_length")
        self.num_hidden_layers = self._number("block_count")
        self.vocab_size = self._gguf.count("tokenizer.ggml.tokens")
        self.taps_last = self._gguf.arch in TAPS_LAST
        self.tied = HEAD not in self._gguf.tensors

    def _number(self, key: str) -> int:
        value = self._gguf.meta(f"{self._gguf.arch}.{key}")
        if not isinstance(value, int):
            raise ConvertError(f"{self._gguf.path} has no {self._gguf.arch}.{key}; it is no model that can be run")
        return value

    def write_tokenizer(self, writer: GGUFWriter, *, mask: int) -> None:
        """See Target."""
        copy_keys(self._gguf, writer, lambda key: key.startswith("tokenizer.") and key != _MASK)
        writer.add_mask_token_id(mask)

    def read(self, head: str, rows: slice) -> Floats:
        """See Target."""
        return self._gguf.rows(head if head in self._gguf.tensors else EMBEDDING, rows)

    def holds(self, head: str, rows: slice, values: Floats) -> bool:
        """See Target."""
        name = head if head in self._gguf.tensors else EMBEDDING
        kind = self._gguf.tensors[name].type.name if name in self._gguf.tensors else "missing"
        if kind not in _EXACT:
            raise ConvertError(
                f"{self._gguf.path}: {name} is {kind}, too coarse to tell whether the drafter's own is the same; "
                "give the target's checkpoint folder, or its GGUF in F16 or BF16"
            )
        exact = GGMLQuantizationType[kind]
        with np.errstate(over="ignore"):  # beyond F16 is an infinity, which no target holds
            kept = dequantize(quantize(values, exact), exact)
        return np.array_equal(self.read(head, rows), kept)
