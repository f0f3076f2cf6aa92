"""Which files of a repository are meant by a quant; pure."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dspark_local.errors import ModelNotFoundError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

# What runs well nearly everywhere comes first.
PREFERRED = ("Q4_K_M", "Q4_0", "Q4_K_XL", "Q4_K_S", "IQ4_XS", "Q5_K_M", "Q6_K", "Q8_0", "BF16", "F16", "F32")
CONFIG = "config.json"
_PART = re.compile(r"(?P<stem>.*)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf", re.IGNORECASE)
_QUANT = re.compile(r"(?<![A-Za-z0-9])((?:IQ|Q|TQ)\d\w*|MXFP4\w*|NVFP4|BF16|F16|F32)(?![A-Za-z0-9_])", re.IGNORECASE)
_CHECKPOINT = (".safetensors", ".json", "tokenizer.model", "chat_template.jinja")
_BESIDE = re.compile(r"mmproj|imatrix", re.IGNORECASE)  # GGUF files that are no language models


@dataclass(frozen=True, slots=True)
class File:
    """A file of a repository: its path there, bytes, and SHA-256 where the hub keeps one (large files)."""

    path: str
    size: int
    sha256: str | None = None


def choose(files: Iterable[File], quant: str | None, *, where: str) -> tuple[File, ...]:
    """The GGUF in the wanted quant, or in the likeliest one; all parts of it, in order.

    `where` names the repository in messages. Raises ModelNotFoundError, with what there is.
    """
    models = ggufs(files)
    if not models:
        raise ModelNotFoundError(f"{where} holds no GGUF; name a repository that does (often user/NAME-GGUF)")
    for wanted in (quant,) if quant else PREFERRED:
        found = [parts for parts in models if has_quant(parts[0].path, wanted)]
        if found:
            return min(found, key=lambda parts: (len(parts[0].path), parts[0].path))
    if quant is None:
        return min(models, key=lambda parts: sum(f.size for f in parts))
    known = sorted({name.upper() for parts in models for name in _QUANT.findall(_name(parts[0].path))})
    raise ModelNotFoundError(f"{where} has no {quant}; it has {', '.join(known) or 'files without a quant'}")


def named(files: Iterable[File], path: str, *, where: str) -> tuple[File, ...]:
    """The file of that path, and the other parts if it is the first of several. Raises ModelNotFoundError."""
    files = list(files)
    for parts in ggufs(files):
        if parts[0].path == path:
            return parts
    found = next((f for f in files if f.path == path), None)
    if found is None:
        raise ModelNotFoundError(f"{where} has no file {path}")
    return (found,)


def checkpoint(files: Iterable[File]) -> tuple[File, ...]:
    """A checkpoint's weights, tokenizer and configuration, the last last; empty where there is none.

    Who fetches them in this order may take a configuration that is there as a sign that all is.
    """
    files = [f for f in files if "/" not in f.path and f.path.endswith(_CHECKPOINT)]
    if not {".safetensors", ".json"} <= {f.path[f.path.rindex(".") :] for f in files}:
        return ()
    return tuple(sorted(files, key=lambda f: (f.path == CONFIG, not f.path.endswith(".safetensors"), f.path)))


def ggufs(files: Iterable[File]) -> list[tuple[File, ...]]:
    """Language models among the files, each as its parts; those with a part missing are left out."""
    split: dict[str, list[File]] = defaultdict(list)
    whole: list[tuple[File, ...]] = []
    for file in files:
        if not file.path.lower().endswith(".gguf") or _BESIDE.search(_name(file.path)):
            continue
        part = _PART.fullmatch(file.path)
        if part is None:
            whole.append((file,))
        else:
            split[f"{part['stem']}-of-{part['count']}"].append(file)
    return whole + [parts for parts in map(_ordered, split.values()) if parts]


def has_quant(path: str, quant: str) -> bool:
    """Whether a file's name, or its folder's, says this quant."""
    return re.search(rf"(?<![A-Za-z0-9_]){re.escape(quant)}(?![A-Za-z0-9_])", path, re.IGNORECASE) is not None


def _ordered(parts: Sequence[File]) -> tuple[File, ...]:
    parts = sorted(parts, key=lambda f: f.path)
    last = _PART.fullmatch(parts[-1].path)
    assert last
    return tuple(parts) if len(parts) == int(last["count"]) else ()


def _name(path: str) -> str:
    return path.rpartition("/")[2]
