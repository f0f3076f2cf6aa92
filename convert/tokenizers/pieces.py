"""Tokens, types, scores and merges of a tokenizer, each in its own kind of file, before special roles are known."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum
from typing import TYPE_CHECKING, Any

from dspark_local.convert.tokenizers.pretokenizers import pre_tokenizer
from dspark_local.errors import ConvertError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from dspark_local.convert.tokenizers.sentencepiece import SentencePiece

_SPACE = "▁"  # SentencePiece's
_ADDED, _FREE = -1000.0, -10000.0  # scores of tokens that no merge makes, as llama.cpp's converter has them
# Tokens that Gemma 4's chats are parsed by: shown, whatever the tokenizer says (llama.cpp's conversion/gemma.py).
_GEMMA4_VISIBLE = {"<|channel>", "<channel|>", "<|tool_call>", "<tool_call|>", "<|tool_response>", "<tool_response|>",
                   '<|"|>'}  # fmt: skip


class TokenType(IntEnum):
    """llama.cpp's llama_token_type."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


@dataclass(frozen=True, slots=True)
class Pieces:
    """Every id's text and type; scores for SentencePiece, merges for BPE. `model` and `pre` are llama.cpp's names."""

    model: str
    pre: str | None
    tokens: tuple[str, ...]
    types: tuple[int, ...]
    scores: tuple[float, ...] = ()
    merges: tuple[str, ...] = ()
    add_space_prefix: bool | None = None
    remove_extra_spaces: bool | None = None


class _Table:
    """Ids filled one by one; those left free are named and unused, so that ids never shift."""

    def __init__(self, path: Path, size: int) -> None:
        self.path = path
        self.tokens = [f"[PAD{i}]" for i in range(size)]
        self.types = [int(TokenType.UNUSED)] * size
        self.scores = [_FREE] * size

    def place(self, i: int, text: str, kind: int, score: float = _ADDED) -> None:
        size = len(self.tokens)
        text.encode()  # halves of characters are no text
        if not isinstance(i, int) or not 0 <= i < size:
            raise ConvertError(f"{self.path}: token {text!r} has id {i}, and config.json says vocab_size {size}")
        self.tokens[i], self.types[i], self.scores[i] = text, int(kind), score


def byte_level(path: Path, tokenizer: dict[str, Any], size: int) -> Pieces:
    """A byte-level BPE tokenizer.json."""
    table = _Table(path, size)
    for text, i in tokenizer["model"]["vocab"].items():
        table.place(i, text, TokenType.NORMAL)
    _add(table, _added(tokenizer), spaces=False)
    merges = tuple(map(_merge, tokenizer["model"]["merges"]))
    pre = pre_tokenizer(path, tokenizer)
    return Pieces("gpt2", pre, tuple(table.tokens), tuple(table.types), merges=merges)


def from_sentencepiece(path: Path, model: SentencePiece, tokenizer: dict[str, Any], size: int) -> Pieces:
    """A tokenizer.model, with the tokens that tokenizer.json or tokenizer_config.json add to it."""
    table = _Table(path, size)
    for i, (text, score, kind) in enumerate(model.pieces):
        spoken = text.replace(_SPACE, " ") if kind == TokenType.USER_DEFINED else text
        table.place(i, spoken, kind, score)
    _add(table, _added(tokenizer), spaces=True)
    return _scored(table, prefix=model.add_space_prefix, squeeze=model.remove_extra_spaces)


def from_byte_fallback(path: Path, tokenizer: dict[str, Any], size: int) -> Pieces:
    """A SentencePiece tokenizer of which only tokenizer.json is left.

    Its scores are gone; but a token's merges stand in the order of its score, so that the rank of the first one serves.
    """
    model = tokenizer["model"]
    scores: dict[str, float] = {}
    for rank, merge in enumerate(model["merges"]):
        scores.setdefault(_merge(merge).replace(" ", "", 1), -float(rank + 1))
    table = _Table(path, size)
    for text, i in model["vocab"].items():
        byte = len(text) == len("<0x00>") and text.startswith("<0x") and text.endswith(">")
        kind = TokenType.BYTE if byte else TokenType.UNKNOWN if text == model.get("unk_token") else TokenType.NORMAL
        table.place(i, text, kind, scores.get(text, _ADDED if len(text) == 1 or byte else _FREE))
    _add(table, _added(tokenizer), spaces=True)
    return _scored(table, prefix=_prepends(tokenizer), squeeze=False)


def _scored(table: _Table, *, prefix: bool, squeeze: bool) -> Pieces:
    """Pieces that are merged by their scores."""
    tokens, types = tuple(table.tokens), tuple(table.types)
    return Pieces(
        "llama", "default", tokens, types, tuple(table.scores), add_space_prefix=prefix, remove_extra_spaces=squeeze
    )


def gemma4(path: Path, tokenizer: dict[str, Any], size: int) -> Pieces:
    """Gemma 4's, which llama.cpp merges by rank and cuts by a rule of its own."""
    pieces = from_byte_fallback(path, tokenizer, size)
    types = tuple(
        TokenType.USER_DEFINED if t in _GEMMA4_VISIBLE else k for t, k in zip(pieces.tokens, pieces.types, strict=True)
    )
    merges = tuple(map(_merge, tokenizer["model"]["merges"]))
    return replace(pieces, model="gemma4", pre=None, types=types, merges=merges, add_space_prefix=False)


def _added(tokenizer: dict[str, Any]) -> list[dict[str, Any]]:
    decoder = tokenizer.get("added_tokens_decoder")
    listed = tokenizer.get("added_tokens", [])
    return listed or [{**token, "id": int(i)} for i, token in (decoder or {}).items()]


def _add(table: _Table, added: Iterable[dict[str, Any]], *, spaces: bool) -> None:
    for token in added:
        i, text = token["id"], token["content"]
        known = isinstance(i, int) and 0 <= i < len(table.types) and table.types[i]
        if spaces and known in (TokenType.UNKNOWN, TokenType.BYTE):
            continue  # already what it is
        if token["special"]:
            table.place(i, text, TokenType.CONTROL)
        else:
            table.place(i, text.replace(_SPACE, " ") if spaces else text, TokenType.USER_DEFINED)


def _prepends(tokenizer: dict[str, Any]) -> bool:
    """Whether a space goes before the text: a Prepend normalizer, or a Metaspace that is not told otherwise."""
    normalizer, before = tokenizer.get("normalizer") or {}, tokenizer.get("pre_tokenizer") or {}
    if any(n.get("type") == "Prepend" for n in [normalizer, *normalizer.get("normalizers", [])]):
        return True
    for node in [before, *before.get("pretokenizers", [])]:
        if node.get("type") == "Metaspace":
            scheme = node.get("prepend_scheme", "always" if node.get("add_prefix_space", True) else "never")
            return bool(scheme != "never")
    return False


def _merge(merge: str | list[str]) -> str:
    """Two parts with a space between: the older dialect's form, in which neither part may hold one."""
    return merge if isinstance(merge, str) else " ".join(merge)
