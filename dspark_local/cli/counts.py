"""How often each token of a vocabulary occurs in text."""

from __future__ import annotations

import os
import pydoc_data.topics
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dspark_local.backend.model import Model
from dspark_local.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import numpy.typing as npt


def count_tokens(model: Path, texts: Iterable[str]) -> npt.NDArray[np.int64]:
    """Occurrences of each token of a model's vocabulary, [n_vocab]."""
    vocab = Model(model, vocab_only=True)
    try:
        counts = np.zeros(vocab.n_vocab, np.int64)
        for text in texts:
            counts += np.bincount(np.array(vocab.encode(text, special=False), np.int64), minlength=vocab.n_vocab)
        return counts
    finally:
        vocab.close()


def read_texts(paths: Iterable[Path]) -> Iterator[str]:
    """The texts of files. Raises UsageError for what is no readable text."""
    for path in paths:
        try:
            yield path.read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "it is not UTF-8"
            raise UsageError(f"{path} cannot be read: {reason}") from None


def standard_texts() -> Iterator[str]:
    """English prose and code that every interpreter has: Python's language reference and library, 4 MB."""
    yield from pydoc_data.topics.topics.values()
    for path in sorted(Path(os.__file__).parent.glob("*.py")):
        yield path.read_text(encoding="utf-8", errors="replace")
