"""A byte-level BPE tokenizer (tokenizer.json and its neighbours) as GGUF keys.

Key names and token types are llama.cpp's (gguf-py's constants); the names of pre-tokenizers those of its
llama-vocab.cpp, where the regexes of the table are quoted.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Any

from dspark_local.errors import ConvertError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from gguf import GGUFWriter

    from dspark_local.convert.checkpoint import Checkpoint


class TokenType(IntEnum):
    """llama.cpp's llama_token_type, as far as byte-level BPE uses it."""

    NORMAL = 1
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5


# Regexes of Split pre-tokenizers, joined by a newline, and what llama.cpp calls them.
_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
PRE_TOKENIZERS = {
    _WORDS + r"\p{N}" + _REST: "qwen2",
    _WORDS + r"\p{N}{1,3}" + _REST: "llama-bpe",
}


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Everything that a GGUF says about a tokenizer."""

    pre: str
    tokens: tuple[str, ...]
    types: tuple[int, ...]
    merges: tuple[str, ...]
    bos: int | None
    eos: int
    more_ends: tuple[int, ...]
    pad: int | None
    add_bos: bool
    chat_template: str | None

    def write(self, writer: GGUFWriter, *, mask: int | None = None) -> None:
        """Add the keys to a file; `mask` is the token that fills a draft block."""
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(self.pre)
        writer.add_token_list(list(self.tokens))
        writer.add_token_types(list(self.types))
        writer.add_token_merges(list(self.merges))
        writer.add_eos_token_id(self.eos)
        # llama.cpp stops at three tokens that a file can name, and at those that it knows by their text
        for add, end in zip((writer.add_eot_token_id, writer.add_eom_token_id), self.more_ends, strict=False):
            add(end)
        if self.bos is not None:
            writer.add_bos_token_id(self.bos)
        if self.pad is not None:
            writer.add_pad_token_id(self.pad)
        if mask is not None:
            writer.add_mask_token_id(mask)
        writer.add_add_bos_token(self.add_bos)
        if self.chat_template:
            writer.add_chat_template(self.chat_template)


def read_vocabulary(checkpoint: Checkpoint) -> Vocabulary:
    """The tokenizer of a checkpoint. Raises ConvertError for one that llama.cpp would tokenise otherwise."""
    path, tokenizer = checkpoint.folder / "tokenizer.json", checkpoint.json("tokenizer.json")
    try:
        return _vocabulary(checkpoint, path, tokenizer)
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise ConvertError(f"{path} is not a tokenizer that can be read ({error!r})") from error


def _vocabulary(checkpoint: Checkpoint, path: Path, tokenizer: dict[str, Any]) -> Vocabulary:
    model = tokenizer["model"]
    if model["type"] != "BPE" or model.get("byte_fallback"):
        raise ConvertError(f"{path}: only byte-level BPE tokenizers can be converted yet, this is {model['type']}")
    config = checkpoint.json("tokenizer_config.json", required=False)
    size: int = checkpoint.config["vocab_size"]
    tokens, types = _tokens(path, tokenizer, size)
    ids = {token: i for i, token in enumerate(tokens)}
    eos = _eos(checkpoint, config, ids)
    return Vocabulary(
        pre=_pre(path, tokenizer),
        tokens=tuple(tokens),
        types=tuple(types),
        merges=tuple(_merge(m) for m in model["merges"]),
        bos=_special(checkpoint, config, ids, "bos"),
        eos=eos,
        more_ends=tuple(end for end in _numbers(checkpoint, ids, "eos") if end != eos),
        pad=_special(checkpoint, config, ids, "pad"),
        add_bos=bool(config.get("add_bos_token", False)),
        chat_template=_template(checkpoint, config),
    )


def _tokens(path: Path, tokenizer: dict[str, Any], size: int) -> tuple[list[str], list[int]]:
    """Texts and types of all ids; ids that the tokenizer leaves free are named and unused."""
    tokens = [f"[PAD{i}]" for i in range(size)]
    types = [int(TokenType.UNUSED)] * size
    for text, i in tokenizer["model"]["vocab"].items():
        _place(path, tokens, types, i, text, TokenType.NORMAL)
    for added in tokenizer.get("added_tokens", []):
        kind = TokenType.CONTROL if added["special"] else TokenType.USER_DEFINED
        _place(path, tokens, types, added["id"], added["content"], kind)
    return tokens, types


def _place(path: Path, tokens: list[str], types: list[int], i: int, text: str, kind: TokenType) -> None:
    if not 0 <= i < len(tokens):
        raise ConvertError(f"{path}: token {text!r} has id {i}, and config.json says vocab_size {len(tokens)}")
    tokens[i], types[i] = text, int(kind)


def _pre(path: Path, tokenizer: dict[str, Any]) -> str:
    regexes = "\n".join(_splits(tokenizer["pre_tokenizer"] or {}))
    if regexes in PRE_TOKENIZERS:
        return PRE_TOKENIZERS[regexes]
    raise ConvertError(
        f"{path}: its pre-tokenizer is not known ({regexes[:60]!r}); find its name in llama.cpp's llama-vocab.cpp "
        "and add it to PRE_TOKENIZERS in convert/vocab.py"
    )


def _splits(node: dict[str, Any]) -> Iterator[str]:
    if node.get("type") == "Split":
        yield node["pattern"]["Regex"]
    for child in node.get("pretokenizers", []):
        yield from _splits(child)


def _merge(merge: str | list[str]) -> str:
    return merge if isinstance(merge, str) else " ".join(merge)


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
    return template
