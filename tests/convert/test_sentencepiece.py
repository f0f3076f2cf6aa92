"""SentencePiece tokenizers, from tokenizer.model or from the tokenizer.json made of one."""

from __future__ import annotations

import contextlib
import itertools
import json
import struct
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dspark_local.backend.model import Model
from dspark_local.convert import convert_target
from dspark_local.convert.checkpoint import Checkpoint
from dspark_local.convert.tokenizers.pieces import TokenType
from dspark_local.convert.tokenizers.sentencepiece import read_sentencepiece
from dspark_local.convert.tokenizers.vocabulary import read_vocabulary
from dspark_local.errors import ConvertError
from tests.convert import checkpoints
from tests.convert.checkpoints import VOCAB

if TYPE_CHECKING:
    from pathlib import Path

SPACE = "▁"
# As SentencePiece's trainer leaves them: what a merge makes, by falling score, and then the letters
WORDS = ["th", f"{SPACE}th", "in", "an", f"{SPACE}the", "ing", f"{SPACE}an", f"{SPACE}and"]
PIECES: list[tuple[str, float, int]] = [
    ("<unk>", 0.0, TokenType.UNKNOWN),
    ("<s>", 0.0, TokenType.CONTROL),
    ("</s>", 0.0, TokenType.CONTROL),
    *((f"<0x{byte:02X}>", 0.0, TokenType.BYTE) for byte in range(256)),
    *((word, -float(i), TokenType.NORMAL) for i, word in enumerate(WORDS)),
    *((letter, -float(100 + i), TokenType.NORMAL) for i, letter in enumerate(f"{SPACE}etaoinshrdlg")),
]
IDS = {text: i for i, (text, _, _) in enumerate(PIECES)}
TEXTS = ["the thing", "an and in  the end", "  hint", "Zürich 9", "ing" * 3, "ththe\nand", ""]
CHAT = {"id": 290, "content": "<end_of_turn>", "special": True}
ADDED = [{"id": i, "content": text, "special": True} for text, i in IDS.items() if i < 3] + [CHAT]


def varint(n: int) -> bytes:
    return bytes([n]) if n < 128 else bytes([n & 127 | 128]) + varint(n >> 7)


def field(number: int, value: bytes | int) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def proto(*, prefix: bool = True, kind: int = 2) -> bytes:
    """A ModelProto: pieces, the trainer's model_type and the normalizer's add_dummy_prefix."""
    pieces = (
        field(1, text.encode()) + varint(2 << 3 | 5) + struct.pack("<f", score) + field(3, int(type_))
        for text, score, type_ in PIECES
    )
    trainer = field(1, b"corpus") + field(3, kind) + field(35, 1)  # with byte_fallback
    normalizer = field(3, int(prefix)) + field(4, 0)
    return b"".join(field(1, piece) for piece in pieces) + field(2, trainer) + field(3, normalizer)


def fast(*, prefix: bool = True) -> dict[str, object]:
    """What transformers' converter makes of it: merges in the order of the scores of what they make."""
    pairs = ((word, word[:i], word[i:]) for word in WORDS for i in range(1, len(word)))
    merges = [[a, b] for _, a, b in pairs if a in IDS and b in IDS]
    steps = [{"type": "Prepend", "prepend": SPACE}] if prefix else []
    replace = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
    return {
        "added_tokens": ADDED,
        "normalizer": {"type": "Sequence", "normalizers": [*steps, replace]},
        "pre_tokenizer": None,
        "model": {"type": "BPE", "byte_fallback": True, "unk_token": "<unk>", "vocab": IDS, "merges": merges},
    }


def reference(text: str, *, prefix: bool = True) -> list[int]:
    """SentencePiece's BPE: join the neighbours whose union has the highest score, the leftmost first."""
    scores = {piece: score for piece, score, _ in PIECES}
    symbols = list((" " * bool(prefix and text) + text).replace(" ", SPACE))
    while True:
        pairs = [(-scores[a + b], i) for i, (a, b) in enumerate(itertools.pairwise(symbols)) if a + b in scores]
        if not pairs:
            break
        _, i = min(pairs)
        symbols[i : i + 2] = [symbols[i] + symbols[i + 1]]
    return [i for s in symbols for i in ([IDS[s]] if s in IDS else [IDS[f"<0x{b:02X}>"] for b in s.encode()])]


def checkpoint(folder: Path, *, model: bytes | None, tokenizer: dict[str, object] | None) -> Path:
    src = checkpoints.target(folder, eos_token_id=290)
    (src / "tokenizer.json").unlink()
    (src / "tokenizer_config.json").write_text(json.dumps({"bos_token": "<s>", "eos_token": "</s>"}))
    if model is not None:
        (src / "tokenizer.model").write_bytes(model)
    if tokenizer is not None:
        (src / "tokenizer.json").write_text(json.dumps(tokenizer))
    return src


@pytest.mark.parametrize("prefix", [True, False])
@pytest.mark.parametrize("source", ["model", "json", "both"])
def test_llama_cpp_tokenises_as_sentencepiece_does(tmp_path: Path, source: str, prefix: bool) -> None:
    """Also where only tokenizer.json is left, whose merges stand for the scores."""
    model = proto(prefix=prefix) if source != "json" else None
    tokenizer = fast(prefix=prefix) if source != "model" else None
    src = checkpoint(tmp_path / "src", model=model, tokenizer=tokenizer)
    loaded = Model(convert_target(src, tmp_path / "t.gguf", type="F16"))
    try:
        for text in TEXTS:
            assert loaded.encode(text, special=False) == reference(text, prefix=prefix), text
    finally:
        loaded.close()


def test_roles_and_types(tmp_path: Path) -> None:
    """Types are SentencePiece's own, added tokens are control tokens, and text begins with BOS."""
    src = checkpoint(tmp_path / "src", model=proto(), tokenizer=fast())
    vocab = read_vocabulary(Checkpoint(src), VOCAB)
    assert (vocab.bos, vocab.eos, vocab.unknown, vocab.more_ends, vocab.add_bos) == (1, 2, 0, (290,), True)
    wanted = {0: TokenType.UNKNOWN, 1: TokenType.CONTROL, 10: TokenType.BYTE, IDS["ing"]: TokenType.NORMAL}
    wanted |= {290: TokenType.CONTROL, 299: TokenType.UNUSED}
    assert {i: vocab.pieces.types[i] for i in wanted} == wanted


def test_a_unigram_model_is_refused(tmp_path: Path) -> None:
    """llama.cpp would read it as BPE."""
    (tmp_path / "tokenizer.model").write_bytes(proto(kind=1))
    with pytest.raises(ConvertError, match="another kind than BPE"):
        read_sentencepiece(tmp_path / "tokenizer.model")


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(0, 4000), patch=st.binary(max_size=12), cut=st.integers(0, 8))
def test_any_damage_is_read_or_refused(tmp_path: Path, at: int, patch: bytes, cut: int) -> None:
    """A tokenizer.model with bytes replaced or removed is read, or refused in one line."""
    data = proto()
    (tmp_path / "tokenizer.model").write_bytes(data[:at] + patch + data[at + cut :])
    with contextlib.suppress(ConvertError):
        assert all(1 <= kind <= 6 for _, _, kind in read_sentencepiece(tmp_path / "tokenizer.model").pieces)
