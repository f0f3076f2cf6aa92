"""What a GGUF file is, in words: for who wonders what was downloaded."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from dspark_local.errors import ModelError
from dspark_local.formats.dflash import is_draft, read_draft_spec
from dspark_local.formats.faults import one_line
from dspark_local.formats.gguf import GGUF
from dspark_local.formats.model import check_model
from dspark_local.formats.pair import check_pair
from dspark_local.formats.vocab import TOKENS, vocab_size

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Fact = tuple[str, str]
_LONGEST = 60  # characters of a value that a file chose itself
_ROLES = ("bos", "eos", "eot", "eom", "padding", "unknown", "mask")


def facts(gguf: GGUF) -> list[Fact]:
    """Architecture, sizes, types, tokenizer, chat template, and a drafter's block. Raises ModelFormatError."""
    return [
        *_general(gguf),
        *_shape(gguf),
        *_tokenizer(gguf),
        *(_drafter(gguf) if is_draft(gguf) else ()),
        _verdict(gguf),
    ]


def fits(gguf: GGUF, others: list[Path]) -> list[Fact]:
    """Which of `others` are this target's drafters, or this drafter's targets; and why the rest are not."""
    found = []
    for path in others:
        try:
            other = GGUF.open(path)
            if is_draft(other) == is_draft(gguf):
                continue
            check_pair(*((other, gguf) if is_draft(gguf) else (gguf, other)))
            found.append((path.name, "fits"))
        except ModelError as error:
            found.append((path.name, f"does not fit: {str(error).partition(': ')[2]}"))
    return found


def _general(gguf: GGUF) -> Iterator[Fact]:
    yield "architecture", _text(gguf.arch)
    if name := gguf.meta("general.name"):
        yield "name", _text(name)
    count = sum(_elements(info.shape) for info in gguf.tensors.values())
    yield "size", f"{gguf.size / 1e9:.3g} GB, {_many(count)} parameters in {len(gguf.tensors)} tensors"
    bits = 8 * sum(info.nbytes for info in gguf.tensors.values()) / max(1, count)
    yield "types", f"{_types(gguf)} ({bits:.2f} bits each)"


def _types(gguf: GGUF) -> str:
    shares: Counter[str] = Counter()
    for info in gguf.tensors.values():
        shares[info.type.name] += info.nbytes
    total = max(1, sum(shares.values()))
    return ", ".join(f"{name} {100 * n / total:.0f} %" for name, n in shares.most_common())


def _shape(gguf: GGUF) -> Iterator[Fact]:
    def value(key: str) -> str:
        found = gguf.meta(f"{gguf.arch}.{key}")
        if isinstance(found, tuple):
            return "/".join(str(v) for v in dict.fromkeys(found))
        return "?" if found is None else _text(found)

    yield (
        "layers",
        f"{value('block_count')} of width {value('embedding_length')}, {value('feed_forward_length')} within",
    )
    heads, kv = value("attention.head_count"), value("attention.head_count_kv")
    yield "heads", f"{heads} of {value('attention.key_length')}, sharing {kv} of keys and values"
    yield "context", f"{value('context_length')} tokens"
    if gguf.meta(f"{gguf.arch}.attention.sliding_window"):
        yield "window", f"{value('attention.sliding_window')} tokens"


def _tokenizer(gguf: GGUF) -> Iterator[Fact]:
    pre = gguf.meta("tokenizer.ggml.pre", "none")
    yield "tokenizer", f"{_text(gguf.meta('tokenizer.ggml.model', 'none'))}, pre-tokenizer {_text(pre)}"
    names = list(gguf.strings(TOKENS))
    roles = []
    for role in _ROLES:
        token = gguf.meta(f"tokenizer.ggml.{role}_token_id")
        if isinstance(token, int) and 0 <= token < len(names):
            roles.append(f"{role} {token} {_text(names[token].decode(errors='replace'))}")
    yield "vocabulary", f"{vocab_size(gguf)} tokens; {', '.join(roles) or 'no roles'}"
    template = gguf.meta("tokenizer.chat_template")
    yield "chat template", f"{len(template)} characters" if isinstance(template, str) else "none"


def _drafter(gguf: GGUF) -> Iterator[Fact]:
    spec = read_draft_spec(gguf)
    kind = f"DSpark, Markov head of rank {spec.markov_rank}"
    if not spec.has_markov:
        kind = f"DFlash 2, {spec.selector} candidates a row" if spec.selector else "plain DFlash, no Markov head"
    yield "drafter", f"{kind}, {'a' if spec.has_confidence_head else 'no'} confidence head"
    first = "the anchor drafts" if spec.sample_from_anchor else "the anchor does not draft"
    yield "block", f"{spec.block_size} tokens, {first}, {'causal' if spec.causal else 'not causal'}"
    yield "taps", f"inputs of layers {', '.join(map(str, spec.target_layers))} of the target"
    own = {True: "its own", False: "the target's"}
    yield "heads of words", f"embedding {own[spec.owns_embedding]}, head {own[spec.owns_head or spec.owns_embedding]}"
    if spec.has_d2t:
        yield "draft vocabulary", f"{spec.draft_vocab_size} of {spec.vocab_size} tokens"


def _verdict(gguf: GGUF) -> Fact:
    try:
        return "check", {"sound": "sound", "unknown": "no fault found; it is tried out before it is run"}[
            check_model(gguf).value
        ]
    except ModelError as error:
        return "check", str(error).partition(": ")[2]


def _elements(shape: tuple[int, ...]) -> int:
    count = 1
    for n in shape:
        count *= n
    return count


def _many(n: int) -> str:
    for size, unit in ((1e9, "B"), (1e6, "M")):
        if n >= size:
            return f"{n / size:.3g} {unit}"
    return str(n)


def _text(value: object) -> str:
    shown = one_line(str(value))
    return shown if len(shown) <= _LONGEST else shown[:_LONGEST] + "…"
