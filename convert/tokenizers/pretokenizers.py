"""How a byte-level tokenizer cuts text before it merges: regexes of tokenizer.json, and llama.cpp's names for them.

The names are those of llama.cpp's llama-vocab.cpp, which quotes most of the regexes. A regex that is not here is
refused: a wrong name tokenises almost alike, and nobody would notice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dspark_local.errors import ConvertError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_SUFFIXES = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_WORDS = _SUFFIXES + r"|[^\r\n\p{L}\p{N}]?\p{L}+|"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_START, _SLASHED = r"[^\r\n\p{L}\p{N}]?", r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"


def _cased(suffix: str) -> str:
    """Words that change from upper to lower case at most once."""
    return f"{_START}{_UPPER}*{_LOWER}+{suffix}|{_START}{_UPPER}+{_LOWER}*{suffix}|"


# The cuts, one below the other, and their name.
PRE_TOKENIZERS = {
    _WORDS + r"\p{N}" + _REST: "qwen2",
    _SUFFIXES
    + r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+": "qwen35",
    _WORDS + r"\p{N}{1,3}" + _REST: "llama-bpe",
    _cased("") + r"\p{N}" + _SLASHED: "tekken",
    _cased(_SUFFIXES + "?") + r"\p{N}{1,3}" + _SLASHED: "gpt-4o",
    _GPT2: "gpt-2",
    "Digits, each\n" + _GPT2: "smollm",
}


def pre_tokenizer(path: Path, tokenizer: dict[str, Any]) -> str:
    """llama.cpp's name for the pre-tokenizer of a tokenizer.json. Raises ConvertError for one that is not known."""
    cuts = "\n".join(_cuts(tokenizer.get("pre_tokenizer") or {}))
    if cuts in PRE_TOKENIZERS:
        return PRE_TOKENIZERS[cuts]
    shown = cuts[:60]
    raise ConvertError(
        f"{path}: its pre-tokenizer is not known ({shown!r}); find its name in llama.cpp's llama-vocab.cpp "
        "and add it to PRE_TOKENIZERS in convert/tokenizers/pretokenizers.py"
    )


def _cuts(node: dict[str, Any]) -> Iterator[str]:
    """What cuts the text, step by step: the regex of a Split, and the name of whatever else there is."""
    kind = node.get("type")
    if kind == "Split":
        kept = node.get("behavior", "Isolated") == "Isolated" or node.get("invert", False)
        yield node["pattern"]["Regex"] if kept else f"Split, {node['behavior']}"
    elif kind == "ByteLevel":
        if node.get("use_regex", True):
            yield _GPT2
    elif kind == "Digits":
        yield "Digits, each" if node.get("individual_digits") else "Digits"
    elif kind != "Sequence":
        yield str(kind)
    for child in node.get("pretokenizers", []):
        yield from _cuts(child)
