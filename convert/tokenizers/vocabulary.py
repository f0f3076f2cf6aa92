"""A checkpoint's tokenizer with its special roles, as GGUF keys. Their names are llama.cpp's (gguf-py's constants)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dspark_local.convert.tokenizers.pieces import (
    Pieces,
    TokenType,
    byte_level,
    from_byte_fallback,
    from_sentencepiece,
    gemma4,
)
from dspark_local.convert.tokenizers.sentencepiece import read_sentencepiece
from dspark_local.errors import ConvertError

if TYPE_CHECKING:
    from pathlib import Path

    from gguf import GGUFWriter

    from dspark_local.convert.checkpoint import Checkpoint


_SENTENCEPIECE = "tokenizer.model"
_MOST_TOKENS = 1 << 21  # eight times the largest vocabulary there is


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Everything that a GGUF says about a tokenizer."""

    pieces: Pieces
    bos: int | None
    eos: int
    more_ends: tuple[int, ...]
    pad: int | None
    unknown: int | None
    add_bos: bool
    chat_template: str | None

    def write(self, writer: GGUFWriter, *, mask: int | None = None) -> None:
        """Add the keys to a file; `mask` is the token that fills a draft block."""
        pieces = self.pieces
        writer.add_tokenizer_model(pieces.model)
        if pieces.pre is not None:
            writer.add_tokenizer_pre(pieces.pre)
        writer.add_token_list(list(pieces.tokens))
        writer.add_token_types(list(pieces.types))
        if pieces.scores:
            writer.add_token_scores(list(pieces.scores))
        if pieces.merges:
            writer.add_token_merges(list(pieces.merges))
        if pieces.add_space_prefix is not None:
            writer.add_add_space_prefix(pieces.add_space_prefix)
        if pieces.remove_extra_spaces:
            writer.add_remove_extra_whitespaces(pieces.remove_extra_spaces)
        writer.add_eos_token_id(self.eos)
        # llama.cpp stops at three tokens that a file can name, and at those that it knows by their text
        for add, end in zip((writer.add_eot_token_id, writer.add_eom_token_id), self.more_ends, strict=False):
            add(end)
        optional = (
            (writer.add_bos_token_id, self.bos),
            (writer.add_pad_token_id, self.pad),
            (writer.add_unk_token_id, self.unknown),
            (writer.add_mask_token_id, mask),
        )
        for add, token in optional:
            if token is not None:
                add(token)
        writer.add_add_bos_token(self.add_bos)
        if self.chat_template:
            writer.add_chat_template(self.chat_template)


def read_vocabulary(checkpoint: Checkpoint, size: int, kind: str = "") -> Vocabulary:
    """The tokenizer of a checkpoint, of `size` ids; `kind` is Family.tokenizer.

    Raises ConvertError for one that llama.cpp would tokenise otherwise.
    """
    path = checkpoint.folder / "tokenizer.json"
    if size > _MOST_TOKENS:
        raise ConvertError(f"{checkpoint.folder}/config.json: vocab_size {size} is more than {_MOST_TOKENS}")
    try:
        return _vocabulary(checkpoint, path, size, kind)
    except (KeyError, TypeError, AttributeError, IndexError, ValueError, RecursionError) as error:
        raise ConvertError(f"{path} is not a tokenizer that can be read ({error!r})") from error


def _vocabulary(checkpoint: Checkpoint, path: Path, size: int, kind: str) -> Vocabulary:
    config = checkpoint.json("tokenizer_config.json", required=False)
    tokenizer = checkpoint.json("tokenizer.json", required=not (checkpoint.folder / _SENTENCEPIECE).is_file())
    pieces = _pieces(checkpoint, path, tokenizer or config, size, kind)
    ids = {token: i for i, token in enumerate(pieces.tokens)}
    eos = _eos(checkpoint, config, ids)
    bos = _special(checkpoint, config, ids, "bos")
    return Vocabulary(
        pieces=pieces,
        bos=bos,
        eos=eos,
        more_ends=tuple(end for end in _numbers(checkpoint, ids, "eos") if end != eos),
        pad=_special(checkpoint, config, ids, "pad"),
        unknown=next((i for i, t in enumerate(pieces.types) if t == TokenType.UNKNOWN), None),
        add_bos=bos is not None and _adds_bos(config, tokenizer, pieces),
        chat_template=_template(checkpoint, config),
    )


def _pieces(checkpoint: Checkpoint, path: Path, tokenizer: dict[str, Any], size: int, kind: str) -> Pieces:
    sentencepiece = checkpoint.folder / _SENTENCEPIECE
    if kind == "gemma4":
        return gemma4(path, tokenizer, size)
    if sentencepiece.is_file():
        return from_sentencepiece(sentencepiece, read_sentencepiece(sentencepiece), tokenizer, size)
    model = tokenizer["model"]
    if model["type"] != "BPE":
        raise ConvertError(f"{path}: only BPE tokenizers can be converted, this is {model['type']}")
    return (from_byte_fallback if model.get("byte_fallback") else byte_level)(path, tokenizer, size)


def _adds_bos(config: dict[str, Any], tokenizer: dict[str, Any], pieces: Pieces) -> bool:
    """Whether text begins with BOS: by the settings, else by the post-processor, else as SentencePiece does."""
    said = config.get("add_bos_token")
    if isinstance(said, bool):
        return said
    after = tokenizer.get("post_processor") or {}
    for node in [after, *after.get("processors", [])]:
        if node.get("type") == "TemplateProcessing":
            return "SpecialToken" in node["single"][0]
    return pieces.model != "gpt2"


def _eos(checkpoint: Checkpoint, config: dict[str, Any], ids: dict[str, int]) -> int:
    eos = _special(checkpoint, config, ids, "eos")
    if eos is None:
        raise ConvertError(f"{checkpoint.folder}: no end token in tokenizer_config.json or config.json; add eos_token")
    return eos


def _special(checkpoint: Checkpoint, config: dict[str, Any], ids: dict[str, int], role: str) -> int | None:
    """Id of a special token: the tokenizer's own name for it first, then the model's number, its first if several."""
    name = config.get(f"{role}_token")
    name = name.get("content") if isinstance(name, dict) else name
    if name is not None:
        if name not in ids:
            raise ConvertError(f"{checkpoint.folder}: {role}_token {name!r} is not in the vocabulary")
        return ids[name]
    return next(iter(_numbers(checkpoint, ids, role)), None)


def _numbers(checkpoint: Checkpoint, ids: dict[str, int], role: str) -> list[int]:
    """What generation_config.json, or else config.json, gives as ids of a role: none, one or several."""
    generation = checkpoint.json("generation_config.json", required=False)
    given = generation.get(f"{role}_token_id", checkpoint.config.get(f"{role}_token_id"))
    numbers = given if isinstance(given, list) else [] if given is None else [given]
    for number in numbers:
        if not isinstance(number, int) or not 0 <= number < len(ids):
            raise ConvertError(f"{checkpoint.folder}: {role}_token_id {number!r} is outside the vocabulary")
    return numbers


def _template(checkpoint: Checkpoint, config: dict[str, Any]) -> str | None:
    """The chat template: of a file of its own, or in tokenizer_config.json, the default one of several."""
    path = checkpoint.folder / "chat_template.jinja"
    if path.is_file():
        return path.read_text(encoding="utf-8")
    template = config.get("chat_template")
    if isinstance(template, list):
        template = next((t["template"] for t in template if t["name"] == "default"), None)
    if template is not None and not isinstance(template, str):
        raise ConvertError(f"{checkpoint.folder}/tokenizer_config.json: chat_template is no text")
    if template:
        template.encode()  # halves of characters are no text
    return template
