"""How often each token occurs in text files."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dspark_local.backend.model import Model
from dspark_local.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    import numpy.typing as npt


def count_tokens(model: Path, texts: Iterable[Path]) -> npt.NDArray[np.int64]:
    """Occurrences of each token of a model's vocabulary, [n_vocab]. Raises UsageError for what is no readable text."""
    vocab = Model(model, simulated=True)
    try:
        counts = np.zeros(vocab.n_vocab, np.int64)
        for path in texts:
            tokens = vocab.encode(_read(path), special=False)
            counts += np.bincount(tokens, minlength=vocab.n_vocab)
        return counts
    finally:
        vocab.close()


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise UsageError(f"{path} cannot be read: {reason}") from None
