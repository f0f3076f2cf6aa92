"""The tokenizer's part of the metadata: all that llama.cpp asserts on while it loads or uses a vocabulary."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dspark_local.formats.faults import format_fault, quoted

if TYPE_CHECKING:
    from dspark_local.errors import ModelFormatError
    from dspark_local.formats.gguf import GGUF

TOKENS = "tokenizer.ggml.tokens"
MASK_ID = "tokenizer.ggml.mask_token_id"
# Vocabularies whose tokenising we know never throws through the C API; others go to the probe.
_BPE, _SPM = "gpt2", "llama"
_IDS = ("bos", "eos", "eot", "eom", "mask")
_DEFAULT_BPE_ID = 11  # what llama.cpp takes for BOS and EOS when the file names none
_TYPES = {
    "tokenizer.ggml.pre": {"str"},
    "tokenizer.ggml.merges": {"arr[str]"},
    "tokenizer.ggml.scores": {"arr[f32]", "arr[i32]"},
    "tokenizer.ggml.token_type": {"arr[i32]"},
    "tokenizer.ggml.token_type_count": {"u32"},
    "tokenizer.ggml.add_bos_token": {"bool"},
    "tokenizer.ggml.add_eos_token": {"bool"},
    "tokenizer.ggml.add_sep_token": {"bool"},
    "tokenizer.ggml.add_space_prefix": {"bool"},
    "tokenizer.ggml.remove_extra_whitespaces": {"bool"},
    "tokenizer.ggml.suppress_tokens": {"arr[i32]"},
    "tokenizer.chat_template": {"str"},
    **{f"tokenizer.ggml.{name}_token_id": {"u32"} for name in (*_IDS, "unknown", "seperator", "padding")},
}


def check_vocab(gguf: GGUF) -> bool:
    """Check the vocabulary; True if it is of a kind that is known through and through.

    Raises ModelFormatError.
    """
    model = gguf.meta("tokenizer.ggml.model")
    if not isinstance(model, str):
        raise _fault(gguf, "has no tokenizer (tokenizer.ggml.model is missing)")
    if model in {"no_vocab", "none"}:
        raise _fault(gguf, "has no vocabulary, so it cannot write text")
    if gguf.type_of(TOKENS) != "arr[str]" or not gguf.count(TOKENS):
        raise _fault(gguf, f"has no list of tokens ({TOKENS})")
    for key, types in _TYPES.items():
        found = gguf.type_of(key)
        if found is not None and found not in types:
            raise _fault(gguf, f"{key} is of type {found}, not {' or '.join(sorted(types))}")
    tokens = _distinct_tokens(gguf)
    for key in ("tokenizer.ggml.scores", "tokenizer.ggml.token_type"):
        if gguf.type_of(key) and gguf.count(key) < len(tokens):
            raise _fault(gguf, f"{key} has {gguf.count(key)} values for {len(tokens)} tokens")
    _check_ids(gguf, len(tokens))
    if model == _BPE:
        if gguf.type_of("tokenizer.ggml.merges") is None and gguf.meta("tokenizer.ggml.pre") != "kimi-k2":
            raise _fault(gguf, "has no merges for its BPE tokenizer (tokenizer.ggml.merges)")
        return True
    return model == _SPM and all(b"<0x%02X>" % byte in tokens for byte in range(256))


def vocab_size(gguf: GGUF) -> int:
    """Count the tokens."""
    return gguf.count(TOKENS)


def _distinct_tokens(gguf: GGUF) -> set[bytes]:
    # As llama.cpp reads them: C strings, an empty one renamed. Two of a kind, and it asserts.
    tokens: set[bytes] = set()
    for i, raw in enumerate(gguf.strings(TOKENS)):
        token = raw.split(b"\0", 1)[0] or b"[EMPTY_%d]" % i
        if token in tokens:
            raise _fault(gguf, f"token {i} occurs twice in the vocabulary: {quoted(repr(token)[2:-1])}")
        tokens.add(token)
    return tokens


def _check_ids(gguf: GGUF, n_vocab: int) -> None:
    for name in _IDS:
        key = f"tokenizer.ggml.{name}_token_id"
        token = gguf.meta(key)
        if isinstance(token, int) and token >= n_vocab:
            raise _fault(gguf, f"{key} is {token}, outside the vocabulary of {n_vocab} tokens")
    for name in ("bos", "eos"):  # llama.cpp asserts that it has the token when it is to add it
        adds = gguf.meta(f"tokenizer.ggml.add_{name}_token") is True
        if adds and gguf.meta(f"tokenizer.ggml.{name}_token_id") is None and n_vocab <= _DEFAULT_BPE_ID:
            raise _fault(gguf, f"tokenizer.ggml.add_{name}_token is true, but no {name}_token_id is given")


def _fault(gguf: GGUF, what: str) -> ModelFormatError:
    return format_fault(gguf.path, what)
