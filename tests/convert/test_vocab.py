"""The tokenizer of a checkpoint, as llama.cpp will read it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

import dspark_local
from dspark_local.convert import convert_target
from dspark_local.convert.checkpoint import Checkpoint
from dspark_local.convert.tokenizers.pieces import TokenType
from dspark_local.convert.tokenizers.pretokenizers import PRE_TOKENIZERS
from dspark_local.convert.tokenizers.vocabulary import read_vocabulary
from dspark_local.errors import ConvertError
from tests.convert import checkpoints
from tests.convert.checkpoints import QWEN2, VOCAB, tokenizer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def put(folder: Path, name: str, value: object) -> None:
    (folder / name).write_text(json.dumps(value))


def test_tokens_stand_at_their_ids_with_their_types(tmp_path: Path) -> None:
    """Free ids up to the vocabulary's size are named and unused, so that ids never shift."""
    src = checkpoints.target(tmp_path / "src")
    added = [{"id": 295, "content": "<tool>", "special": False}, {"id": 297, "content": "<|im_end|>", "special": True}]
    put(src, "tokenizer.json", tokenizer() | {"added_tokens": added})
    put(src, "tokenizer_config.json", {"eos_token": "<|im_end|>"})
    vocab = read_vocabulary(Checkpoint(src), VOCAB)
    assert len(vocab.pieces.tokens) == len(vocab.pieces.types) == len(set(vocab.pieces.tokens)) == VOCAB
    wanted = {
        33: ("!", TokenType.NORMAL),
        256: ("th", TokenType.NORMAL),
        257: ("[PAD257]", TokenType.UNUSED),
        295: ("<tool>", TokenType.USER_DEFINED),
        297: ("<|im_end|>", TokenType.CONTROL),
        299: ("[PAD299]", TokenType.UNUSED),
    }
    assert {i: (vocab.pieces.tokens[i], vocab.pieces.types[i]) for i in wanted} == wanted


@pytest.mark.parametrize(
    ("settings", "generation", "model", "ends"),
    [
        ({"eos_token": "<|im_end|>"}, None, None, (297, ())),
        ({"eos_token": {"content": "<|im_end|>"}}, None, None, (297, ())),
        ({"eos_token": "<|im_end|>"}, [297, 298], None, (297, (298,))),
        ({"eos_token": "<|im_end|>"}, [298, 296, 297], None, (297, (298, 296))),
        ({}, [298, 297], 296, (298, (297,))),
        ({}, 298, 297, (298, ())),
        ({}, None, 297, (297, ())),
        ({}, None, [297, 298], (297, (298,))),
    ],
)
def test_the_end_is_the_tokenizers_then_the_models(
    tmp_path: Path, settings: object, generation: object, model: object, ends: tuple[int, tuple[int, ...]]
) -> None:
    """A chat ends with the tokenizer's own end token; other ends that the model may write are kept beside it."""
    src = checkpoints.target(tmp_path / "src", eos_token_id=model)
    put(src, "tokenizer_config.json", settings)
    if generation is not None:
        put(src, "generation_config.json", {"eos_token_id": generation})
    vocab = read_vocabulary(Checkpoint(src), VOCAB)
    assert (vocab.eos, vocab.more_ends) == ends


def test_llama_cpp_stops_at_every_end(tmp_path: Path) -> None:
    """Also at one whose text it does not know."""
    src = checkpoints.target(tmp_path / "src")
    added = [{"id": i, "content": f"<odd{i}>", "special": True} for i in (296, 297, 298)]
    put(src, "tokenizer.json", tokenizer() | {"added_tokens": added})
    put(src, "tokenizer_config.json", {"eos_token": "<odd296>"})
    put(src, "generation_config.json", {"eos_token_id": [296, 298]})
    with dspark_local.load(convert_target(src, tmp_path / "t.gguf", type="F16"), ctx_size=128, threads=1) as runtime:
        assert [runtime.vocab.is_end(i) for i in (296, 297, 298)] == [True, False, True]


def test_a_template_file_goes_before_the_settings(tmp_path: Path) -> None:
    """Of several named templates it is the default one."""
    src = checkpoints.target(tmp_path / "src")
    named = [{"name": "tool_use", "template": "no"}, {"name": "default", "template": "yes"}]
    put(src, "tokenizer_config.json", {"eos_token": "<|im_end|>", "chat_template": named})
    assert read_vocabulary(Checkpoint(src), VOCAB).chat_template == "yes"
    (src / "chat_template.jinja").write_text("file")
    assert read_vocabulary(Checkpoint(src), VOCAB).chat_template == "file"


@pytest.mark.parametrize("regex", [cuts for cuts, name in PRE_TOKENIZERS.items() if name not in ("gpt-2", "smollm")])
def test_known_pre_tokenizers_are_named(tmp_path: Path, regex: str) -> None:
    """By the regex of their Split."""
    src = checkpoints.target(tmp_path / "src")
    put(src, "tokenizer.json", tokenizer(regex))
    assert read_vocabulary(Checkpoint(src), VOCAB).pieces.pre == PRE_TOKENIZERS[regex]


@pytest.mark.parametrize(
    ("nodes", "name"),
    [
        ([{"type": "ByteLevel"}], "gpt-2"),
        ([{"type": "ByteLevel", "use_regex": True}], "gpt-2"),
        ([{"type": "Digits", "individual_digits": True}, {"type": "ByteLevel"}], "smollm"),
        ([{"type": "Digits", "individual_digits": False}, {"type": "ByteLevel"}], None),
        ([{"type": "Punctuation"}, {"type": "ByteLevel"}], None),
        ([{"type": "ByteLevel", "use_regex": False}], None),
        ([{"type": "Split", "pattern": {"Regex": QWEN2}}, {"type": "ByteLevel"}], None),
        ([{"type": "Split", "pattern": {"Regex": QWEN2}, "behavior": "MergedWithNext"}], None),
        ([{"type": "Split", "pattern": {"String": " "}}], None),
    ],
)
def test_every_step_of_a_pre_tokenizer_counts(tmp_path: Path, nodes: list[dict[str, object]], name: str | None) -> None:
    """What cuts the text beside a known regex makes another pre-tokenizer, which is refused if it is not known."""
    src = checkpoints.target(tmp_path / "src")
    put(src, "tokenizer.json", tokenizer() | {"pre_tokenizer": {"type": "Sequence", "pretokenizers": nodes}})
    if name:
        assert read_vocabulary(Checkpoint(src), VOCAB).pieces.pre == name
    else:
        with pytest.raises(ConvertError, match=r"PRE_TOKENIZERS|not a tokenizer"):
            read_vocabulary(Checkpoint(src), VOCAB)


@pytest.mark.parametrize(
    ("breaks", "says"),
    [
        (lambda f: put(f, "tokenizer.json", tokenizer(".*")), "PRE_TOKENIZERS"),
        (lambda f: put(f, "tokenizer.json", tokenizer() | {"pre_tokenizer": None}), "PRE_TOKENIZERS"),
        (lambda f: put(f, "tokenizer.json", {"model": {"type": "Unigram"}}), "Unigram"),
        (lambda f: put(f, "tokenizer.json", {"model": 1}), "not a tokenizer"),
        (lambda f: put(f, "tokenizer.json", {}), "not a tokenizer"),
        (
            lambda f: put(
                f, "tokenizer.json", tokenizer() | {"added_tokens": [{"id": VOCAB, "content": "x", "special": True}]}
            ),
            f"has id {VOCAB}, and config.json says vocab_size {VOCAB}",
        ),
        (lambda f: put(f, "tokenizer_config.json", {"eos_token": "</s>"}), "not in the vocabulary"),
        (lambda f: put(f, "tokenizer_config.json", {"eos_token": "<|im_end|>", "pad_token": "?!"}), "pad_token"),
        (lambda f: put(f, "generation_config.json", {"eos_token_id": VOCAB}), "outside the vocabulary"),
    ],
)
def test_a_tokenizer_that_would_read_otherwise_is_refused(
    tmp_path: Path, breaks: Callable[[Path], object], says: str
) -> None:
    """In one line."""
    breaks(src := checkpoints.target(tmp_path / "src"))
    with pytest.raises(ConvertError, match=says) as raised:
        read_vocabulary(Checkpoint(src), VOCAB)
    assert "\n" not in str(raised.value)
