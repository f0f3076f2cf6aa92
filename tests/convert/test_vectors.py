"""llama.cpp's own tokenisation vectors, through a file that we wrote.

They come with llama.cpp's sources, which llama-cpp-python's source package vendors (models/ggml-vocab-*.gguf with .inp
and .out): unpack it and set DSPARK_LLAMA_CPP to its vendor/llama.cpp.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from dspark_local.backend.model import Model
from dspark_local.convert import convert_target
from dspark_local.convert.tokenizers.pretokenizers import PRE_TOKENIZERS
from dspark_local.formats.gguf import GGUF
from tests.convert import test_sentencepiece
from tests.convert.configs import CONFIGS
from tests.convert.families import Model as Family

SOURCES = Path(os.environ.get("DSPARK_LLAMA_CPP", "/nowhere")) / "models"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not SOURCES.is_dir(), reason="set DSPARK_LLAMA_CPP to llama.cpp's sources"),
]
SEPARATOR = "\n__ggml_vocab_test__\n"


def hub_files(name: str, how: str) -> tuple[dict[str, Any], bytes | None]:
    """tokenizer.json and tokenizer.model that say what the vocabulary file says."""
    vocab = GGUF.open(SOURCES / f"ggml-vocab-{name}.gguf")
    tokens = [t.decode(errors="surrogateescape") for t in vocab.strings("tokenizer.ggml.tokens")]
    types = [int(t) for t in vocab.meta("tokenizer.ggml.token_type")]  # type: ignore[union-attr]
    added = [
        {"id": i, "content": t, "special": kind == 3}
        for i, (t, kind) in enumerate(zip(tokens, types, strict=True))
        if kind in (3, 4)
    ]
    if how == "model":
        scores = [float(s) for s in vocab.meta("tokenizer.ggml.scores")]  # type: ignore[union-attr]
        test_sentencepiece.PIECES[:] = list(zip(tokens, scores, types, strict=True))
        return {}, test_sentencepiece.proto()
    model: dict[str, Any] = {"type": "BPE", "vocab": {t: i for i, t in enumerate(tokens)}}
    tokenizer: dict[str, Any] = {"added_tokens": added, "model": model}
    if how == "scores":  # what transformers' converter makes of a SentencePiece model
        scores = [float(s) for s in vocab.meta("tokenizer.ggml.scores")]  # type: ignore[union-attr]
        ids = model["vocab"]
        normal = sorted(
            (i for i, kind in enumerate(types) if kind == 1 and len(tokens[i]) > 1), key=lambda i: -scores[i]
        )
        pairs = ((t[:k], t[k:]) for t in (tokens[i] for i in normal) for k in range(1, len(t)))
        model |= {
            "merges": [[a, b] for a, b in pairs if a in ids and b in ids],
            "byte_fallback": True,
            "unk_token": "<unk>",
        }
        tokenizer["normalizer"] = {"type": "Prepend", "prepend": "▁"}
        return tokenizer, None
    model["merges"] = [m.decode() for m in vocab.strings("tokenizer.ggml.merges")]
    if how == "gemma4":
        model["byte_fallback"] = True
    else:
        cuts = next(regex for regex, pre in PRE_TOKENIZERS.items() if pre == vocab.meta("tokenizer.ggml.pre"))
        tokenizer["pre_tokenizer"] = {"type": "Split", "pattern": {"Regex": cuts}}
    return tokenizer, None


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("llama-bpe", "bpe"),
        ("qwen2", "bpe"),
        ("qwen35", "bpe"),
        ("llama-spm", "model"),
        ("llama-spm", "scores"),
        ("gemma-4", "gemma4"),
    ],
)
def test_vectors_pass_through_our_file(tmp_path: Path, name: str, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every text of the vectors becomes llama.cpp's tokens."""
    monkeypatch.setattr(test_sentencepiece, "PIECES", list(test_sentencepiece.PIECES))
    tokenizer, model = hub_files(name, how)
    vocab = GGUF.open(SOURCES / f"ggml-vocab-{name}.gguf").count("tokenizer.ggml.tokens")
    family = "gemma4" if how == "gemma4" else "qwen3"
    config = json.loads(json.dumps(CONFIGS[family]))
    config.get("text_config", config)["vocab_size"] = vocab
    src = Family(family, {**config, "eos_token_id": 1}).write(tmp_path / "src")
    (src / "tokenizer_config.json").write_text("{}")
    (src / "tokenizer.json").write_text(json.dumps(tokenizer))
    if model:
        (src / "tokenizer.json").unlink()
        (src / "tokenizer.model").write_bytes(model)
    loaded = Model(convert_target(src, tmp_path / "t.gguf", type="F16"))
    try:
        texts = (SOURCES / f"ggml-vocab-{name}.gguf.inp").read_text(encoding="utf-8").split(SEPARATOR)
        wanted = (SOURCES / f"ggml-vocab-{name}.gguf.out").read_text(encoding="utf-8").splitlines()
        assert len(wanted) >= len(texts) - 1 > 30
        for text, line in zip(texts, wanted, strict=False):
            assert loaded.encode(text, special=False) == [int(t) for t in line.split()], text
    finally:
        loaded.close()
