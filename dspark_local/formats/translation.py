"""Two vocabularies that are one but for a few tokens: those of a target and of a small model that drafts for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from dspark_local.formats.faults import format_fault, pair_fault
from dspark_local.formats.pair import DRAFT_ARCHES, check_target
from dspark_local.formats.vocab import TOKENS, vocab_size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dspark_local.formats.gguf import GGUF

MOST_DIFFERENT = 256  # tokens: more is another vocabulary; makers rename and add that many special ones
Floats = npt.NDArray[np.float32]
Ids = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Translation:
    """`to_small[t]` is the small model's token for the target's t; `foreign` target tokens that it cannot draft."""

    to_small: Ids
    foreign: Ids
    n_small: int

    @property
    def same(self) -> bool:
        """Whether there is nothing to translate."""
        return not self.foreign.size and self.n_small == len(self.to_small)

    @classmethod
    def identity(cls, n_vocab: int) -> Translation:
        """Between a vocabulary and itself."""
        return cls(np.arange(n_vocab, dtype=np.int64), np.empty(0, np.int64), n_vocab)

    def tokens(self, tokens: Sequence[int]) -> Sequence[int]:
        """What the small model is given for the target's tokens."""
        return tokens if self.same else self.to_small[np.asarray(tokens, np.int64)].tolist()

    def logits(self, row: Floats) -> Floats:
        """A row of the small model over the target's vocabulary; −inf for tokens that it does not have."""
        if self.same:
            return row
        found = row[self.to_small]
        found[self.foreign] = -np.inf
        return found


def translation(target: GGUF, small: GGUF) -> Translation:
    """How the two vocabularies go together.

    A token that is spelled otherwise goes by its spelling; one that the small model lacks is given to it as its end of
    text, and never drafted. Raises PairError for another vocabulary, ModelFormatError for a file that cannot draft.
    """
    if small.arch in DRAFT_ARCHES:
        what = f"a drafter of the kind {small.arch}, which is not driven yet: choose another --drafter or --no-draft"
        raise format_fault(small.path, what)
    check_target(small)
    for key in ("tokenizer.ggml.model", "tokenizer.ggml.pre"):
        if target.meta(key) != small.meta(key):
            what = f"its tokenizer is another ({key} is {small.meta(key)}, the target's {target.meta(key)})"
            raise pair_fault(small.path, target.path, what)
    n, n_small = vocab_size(target), vocab_size(small)
    to_small = np.arange(n, dtype=np.int64)
    if target.raw(TOKENS) == small.raw(TOKENS):
        return Translation(to_small, np.empty(0, np.int64), n_small)
    theirs, ours = list(target.strings(TOKENS)), list(small.strings(TOKENS))
    differ = [i for i in range(n) if i >= n_small or theirs[i] != ours[i]]
    padding = [i for i in differ if i >= n_small]
    if len(differ) - len(padding) > MOST_DIFFERENT or len(padding) > max(MOST_DIFFERENT, n // 100):
        what = f"its vocabulary is another ({len(differ)} of {n} tokens differ)"
        raise pair_fault(small.path, target.path, what)
    by_text = {token: i for i, token in enumerate(ours)}
    end = small.meta("tokenizer.ggml.eos_token_id", 0)
    stand_in = end if isinstance(end, int) and end < n_small else 0
    foreign = [i for i in differ if theirs[i] not in by_text]
    to_small[differ] = [by_text.get(theirs[i], stand_in) for i in differ]
    return Translation(to_small, np.array(foreign, np.int64), n_small)
