"""A drafter over fewer tokens: of its heads the rows of those that are likely, in a file whose `d2t` says which.

A small drafter spends most of a pass on two heads over the whole vocabulary, that of its last layer and the Markov
head's W2 [P §3.1], the latter once for every position. Tokens that are dropped are never drafted; the target writes
them all the same (FR-Spec, Zhao et al. 2025, finds that few tokens do most of the drafting).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dspark_local.convert.copying import copy_keys, copy_rows, copy_tensor
from dspark_local.convert.target import EMBEDDING, HEAD
from dspark_local.convert.writer import values, write
from dspark_local.errors import ConvertError
from dspark_local.formats.dflash import read_draft_spec
from dspark_local.formats.gguf import GGUF
from dspark_local.formats.pair import check_pair
from dspark_local.formats.vocab import vocab_size

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt
    from gguf import GGUFWriter

    from dspark_local.convert.writer import Progress

    Ids = npt.NDArray[np.int64]

_W2 = "markov_w2.weight"
_ALWAYS = (3, 4)  # token types of llama.cpp: control and user-defined, which end answers and open tool calls


def trim(
    draft: Path, target: Path, out: Path, *, tokens: int, counts: Ids | None = None, progress: Progress | None = None
) -> Path:
    """Write the drafter `draft` of `target` with `tokens` tokens into `out`, which may be the same file.

    `counts` [n_vocab] says how often each occurs in text like what is to be drafted; without it those with small ids
    count as likely, as tokenizers number what they merge first. Raises ModelError, and then changes nothing.
    """
    gguf, theirs = GGUF.open(draft), GGUF.open(target)
    spec = read_draft_spec(gguf)
    check_pair(theirs, gguf)
    if spec.has_d2t:
        raise ConvertError(f"{draft.name} has a vocabulary of its own already, of {spec.draft_vocab_size} tokens")
    if not 1 <= tokens < spec.vocab_size:
        raise ConvertError(f"the tokens to keep lie between 1 and {spec.vocab_size - 1}, not {tokens}")
    ids = _likely(theirs, tokens, counts)
    owner, head = next((g, n) for g, n in _heads(gguf, theirs) if n in g.tensors)
    tensors = [copy_tensor(gguf, name) for name in gguf.tensors if name not in (HEAD, _W2)]
    tensors.append(copy_rows(owner, head, ids, renamed=HEAD))
    if _W2 in gguf.tensors:
        tensors.append(copy_rows(gguf, _W2, ids))
    tensors.append(values("d2t", ids))

    def keys(writer: GGUFWriter) -> None:
        copy_keys(gguf, writer)

    return write(out, gguf.arch, keys, tensors, progress)


def _heads(draft: GGUF, target: GGUF) -> list[tuple[GGUF, str]]:
    """Where llama.cpp would take the drafter's head from, first to last."""
    return [(draft, HEAD), (draft, EMBEDDING), (target, HEAD), (target, EMBEDDING)]


def _likely(target: GGUF, n: int, counts: Ids | None) -> Ids:
    """Ids of the `n` likeliest tokens, ascending; of equals those with small ids."""
    often = np.zeros(vocab_size(target), np.int64) if counts is None else counts.copy()
    kinds = target.meta("tokenizer.ggml.token_type")
    if isinstance(kinds, tuple):
        often[np.isin(kinds, _ALWAYS)] = np.iinfo(np.int64).max
    return np.sort(np.argsort(-often, kind="stable")[:n])
