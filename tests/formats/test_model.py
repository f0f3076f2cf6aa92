"""Hyperparameters, vocabulary and tensor table: what passes, what is refused and in which words."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from dspark_local.errors import ModelFormatError
from dspark_local.formats.gguf import GGUF
from dspark_local.formats.model import Soundness, check_model
from tests.formats import tiny
from tests.formats.tiny import BOOL, F32, I32, STR, U16, U32, Array, Tensor, Tiny

if TYPE_CHECKING:
    from pathlib import Path


def check(model: Tiny, tmp_path: Path) -> Soundness:
    return check_model(GGUF.open(model.write(tmp_path / "model.gguf")))


SOUND = {
    "target": tiny.target(),
    "untied target": tiny.target(untied=True, kind=tiny.Q4_0),
    "draft": tiny.draft(),
    "draft with heads": tiny.draft(own_heads=True),
    "draft with d2t": tiny.draft(d2t=True, kind=tiny.F16),
    "without optional keys": tiny.target().with_keys(
        qwen3__rope__freq_base=None, tokenizer__ggml__token_type=None, tokenizer__chat_template=None
    ),
}


@pytest.mark.parametrize("name", SOUND)
def test_sound_files_are_called_sound(name: str, tmp_path: Path) -> None:
    """Both architectures, in all the forms in which their heads come."""
    assert check(SOUND[name], tmp_path) is Soundness.SOUND


T, D = tiny.target(), tiny.draft()
WORDS = tiny.tokens()
UNKNOWN = {
    "another architecture": Tiny("gemma4", T.keys, T.tensors),
    "another kind of vocabulary": T.with_keys(tokenizer__ggml__model=(STR, "bert")),
    "SentencePiece without byte tokens": T.with_keys(tokenizer__ggml__model=(STR, "llama")),
    "scales beside the weights": T.with_tensors({"blk.0.attn_q.scale": Tensor(np.ones(1, np.float32))}),
    "a sliding window": D.with_keys(dflash__attention__sliding_window=(U32, 64)),
    "M-RoPE": D.with_keys(dflash__rope__dimension_sections=Array(I32, [16, 0, 0, 0])),
    "DeepSeek-V4": D.with_keys(dflash__hyper_connection__count=(U32, 4)),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_what_no_rule_models_is_unknown_and_not_refused(name: str, tmp_path: Path) -> None:
    """Beyond the rules the verdict is left to the probe."""
    assert check(UNKNOWN[name], tmp_path) is Soundness.UNKNOWN


def norm(width: int) -> Tensor:
    return Tensor(np.ones(width, np.float32))


def half(width: int) -> Tensor:
    return Tensor(np.ones(width, np.float32), tiny.F16)


DOUBLED = [*WORDS[:-1], WORDS[0]]
D2T = tiny.draft(d2t=True)
REFUSED = {
    "DeepSeek-V4 with d2t": (D2T.with_keys(dflash__hyper_connection__count=(U32, 4)), "no vocabulary of their own"),
    "no tokenizer": (T.with_keys(tokenizer__ggml__model=None), "has no tokenizer"),
    "no vocabulary": (T.with_keys(tokenizer__ggml__model=(STR, "no_vocab")), "has no vocabulary"),
    "no tokens": (T.with_keys(tokenizer__ggml__tokens=None), "has no list of tokens"),
    "tokens are numbers": (T.with_keys(tokenizer__ggml__tokens=Array(I32, [1])), "has no list of tokens"),
    "a token twice": (T.with_keys(tokenizer__ggml__tokens=Array(STR, DOUBLED)), "token 263 occurs twice"),
    "a token twice after NUL": (
        T.with_keys(tokenizer__ggml__tokens=Array(STR, [*WORDS[:-1], WORDS[0] + "\0x"])),
        "token 263 occurs twice",
    ),
    "few token types": (T.with_keys(tokenizer__ggml__token_type=Array(I32, [1])), "1 values for 264 tokens"),
    "few scores": (T.with_keys(tokenizer__ggml__scores=Array(F32, [0.5])), "1 values for 264 tokens"),
    "no merges": (T.with_keys(tokenizer__ggml__merges=None), "has no merges"),
    "merges are numbers": (T.with_keys(tokenizer__ggml__merges=Array(I32, [1])), "arr.i32., not arr.str."),
    "eos outside": (T.with_keys(tokenizer__ggml__eos_token_id=(U32, 264)), "264, outside the vocabulary of 264"),
    "mask outside": (T.with_keys(tokenizer__ggml__mask_token_id=(U32, 999)), "999, outside the vocabulary"),
    "eos is a string": (T.with_keys(tokenizer__ggml__eos_token_id=(STR, "2")), "of type str, not u32"),
    "no context length": (T.with_keys(qwen3__context_length=None), "qwen3.context_length is missing"),
    "width is a string": (T.with_keys(qwen3__embedding_length=(STR, "64")), "of type str, not u32"),
    "width is an array": (T.with_keys(qwen3__embedding_length=Array(U32, [64])), r"type arr\[u32\], not u32"),
    "no layers": (T.with_keys(qwen3__block_count=(U32, 0)), "'0', not between 1 and 512"),
    "513 layers": (T.with_keys(qwen3__block_count=(U32, 513)), "'513', not between 1 and 512"),
    "a layer too many": (T.with_keys(qwen3__block_count=(U32, 3)), "tensor 'blk.2.attn_norm.weight' is missing"),
    "a layer too few": (T.with_keys(qwen3__block_count=(U32, 1)), "does not belong into a qwen3 model"),
    "no heads": (T.with_keys(qwen3__attention__head_count=(U32, 0)), "'0', not between 1 and"),
    "heads that do not divide": (
        T.with_keys(qwen3__attention__head_count=(U32, 3), qwen3__attention__head_count_kv=(U32, 2)),
        "3 attention heads cannot share 2 key-value heads",
    ),
    "value heads of another size": (T.with_keys(qwen3__attention__value_length=(U32, 16)), "not the head size 32"),
    "rotation of another size": (T.with_keys(qwen3__rope__dimension_count=(U32, 16)), "not the head size 32"),
    "odd heads": (
        T.with_keys(qwen3__attention__key_length=(U32, 31), qwen3__attention__value_length=(U32, 31)),
        "heads of 31 values cannot be rotated",
    ),
    "NaN epsilon": (
        T.with_keys(qwen3__attention__layer_norm_rms_epsilon=(F32, float("nan"))),
        "'nan', not a finite number above 0",
    ),
    "negative epsilon": (
        T.with_keys(qwen3__attention__layer_norm_rms_epsilon=(F32, -1e-6)),
        "not a finite number above 0",
    ),
    "infinite rope base": (T.with_keys(qwen3__rope__freq_base=(F32, float("inf"))), "'inf', not a finite number"),
    "unknown rope scaling": (T.with_keys(qwen3__rope__scaling__type=(STR, "twisted")), "'twisted', not none"),
    "experts": (T.with_keys(qwen3__expert_count=(U32, 8)), "has no experts"),
    "an embedding model": (T.with_keys(qwen3__pooling_type=(U32, 3)), "it is an embedding model"),
    "a part of several": (T.with_keys(split__count=(U16, 2)), "merge the parts"),
    "vocabulary and embedding": (
        T.with_tensors({"token_embd.weight": Tensor(np.zeros((300, 64), np.float32))}),
        r"'token_embd.weight' has the shape \(64, 300\), expected \(64, 264\)",
    ),
    "a missing tensor": (
        T.with_tensors({"blk.1.ffn_up.weight": None}),
        "tensor 'blk.1.ffn_up.weight' is missing",
    ),
    "a tensor too many": (T.with_tensors({"blk.0.odd.weight": norm(4)}), "'blk.0.odd.weight' does not belong"),
    "half a norm": (T.with_tensors({"output_norm.weight": half(64)}), "is of type F16, which llama.cpp cannot use"),
    "half a scale": (T.with_tensors({"blk.0.attn_q.scale": half(1)}), "is of type F16, not F32"),
    "an embedding of numbers": (
        T.with_tensors({"token_embd.weight": Tensor(np.zeros((264, 64), np.int64))}),
        "is of type I64",
    ),
    "no block size": (D.with_keys(dflash__block_size=None), "dflash.block_size is missing"),
    "block of 1": (D.with_keys(dflash__block_size=(U32, 1)), "'1', not between 2 and 256"),
    "block of 2^31": (D.with_keys(dflash__block_size=(U32, 2**31)), "not between 2 and 256"),
    "anchor is a string": (D.with_keys(dflash__sample_from_anchor=(STR, "true")), "of type str, not bool"),
    "another activation": (D.with_keys(dflash__hidden_activation=(STR, "relu")), "'relu', not silu or gelu"),
    "fc for other taps": (
        D.with_keys(dflash__target_layers=Array(I32, [0])),
        r"'fc.weight' has the shape \(128, 64\), expected \(64, 64\)",
    ),
    "Markov head of another rank": (
        D.with_tensors({"markov_w2.weight": Tensor(np.zeros((264, 64), np.float32))}),
        "'markov_w2.weight' has the",
    ),
    "d2t outside": (
        D2T.with_tensors({"d2t": Tensor(np.full(132, 264, np.int64))}),
        "d2t maps to tokens outside",
    ),
    "d2t negative": (D2T.with_tensors({"d2t": Tensor(np.full(132, -1, np.int64))}), "d2t maps to tokens outside"),
    "d2t of I32": (D2T.with_tensors({"d2t": Tensor(np.zeros(132, np.int32))}), "'d2t' is of type I32"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refuses_in_one_line(name: str, tmp_path: Path) -> None:
    """Each fault has its own message, which begins with the file."""
    model, message = REFUSED[name]
    with pytest.raises(ModelFormatError, match=message) as caught:
        check(model, tmp_path)
    assert str(caught.value).startswith(str(tmp_path))
    assert "\n" not in str(caught.value)


def test_bos_that_is_to_be_added_must_exist(tmp_path: Path) -> None:
    """A vocabulary of at most 11 tokens has no default BOS, so adding one is refused."""
    few = T.with_keys(
        tokenizer__ggml__tokens=Array(STR, list("abcdefg")),
        tokenizer__ggml__bos_token_id=None,
        tokenizer__ggml__eos_token_id=None,
        tokenizer__ggml__add_bos_token=(BOOL, True),
    )
    with pytest.raises(ModelFormatError, match="add_bos_token is true, but no bos_token_id"):
        check(few, tmp_path)
