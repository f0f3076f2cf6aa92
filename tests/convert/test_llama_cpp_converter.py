"""Our files beside those of llama.cpp's own converter: the same tensors and keys, but for the differences listed here.

Set DSPARK_LLAMA_CPP to llama.cpp's sources (llama-cpp-python's source package vendors them) and
DSPARK_CONVERTER_PYTHON to a Python that has what its converter needs: torch, transformers, sentencepiece.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from dspark_local.convert import convert_draft, convert_target
from dspark_local.formats.gguf import GGUF
from tests.convert import checkpoints, test_sentencepiece
from tests.convert.configs import CONFIGS
from tests.convert.deepseek import TARGET, Drafter
from tests.convert.drafters import DRAFTS, Draft
from tests.convert.families import Model

SOURCES = Path(os.environ.get("DSPARK_LLAMA_CPP", "/nowhere"))
PYTHON = os.environ.get("DSPARK_CONVERTER_PYTHON", "")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (SOURCES / "convert_hf_to_gguf.py").is_file() or not PYTHON, reason="see the docstring"),
]
# It knows tokenizers by a hash of what they make of a text; ours are too small to be known.
WRAPPER = """
import runpy, sys
sys.path[:0] = [sys.argv[1], sys.argv[1] + "/gguf-py"]
from conversion.base import TextModel
TextModel.get_vocab_base_pre = lambda self, tokenizer: "qwen2"
sys.argv = sys.argv[1:]
sys.argv[0] += "/convert_hf_to_gguf.py"
runpy.run_path(sys.argv[0], run_name="__main__")
"""
# What only one of the two writes, or each in its own way, and why that makes no difference (docs/convert.md).
THEIRS = {
    "general.type", "general.size_label", "general.quantization_version", "general.sampling.temp",
    "general.basename", "general.finetune", "general.version", "general.license", "general.tags",
    "%s.vocab_size", "%s.rope.dimension_count", "%s.rope.scaling.type", "tokenizer.ggml.add_eos_token",
    "tokenizer.ggml.seperator_token_id", "tokenizer.ggml.add_sep_token", "%s.rope.freq_base_swa",
    "tokenizer.ggml.unknown_token_id", "tokenizer.ggml.padding_token_id", "tokenizer.ggml.bos_token_id",
}  # fmt: skip
OURS = {
    "general.quantization_version", "tokenizer.ggml.eot_token_id", "tokenizer.ggml.bos_token_id",
    "tokenizer.ggml.eos_token_id", "%s.attention.causal", "%s.attention.key_length",
    "%s.attention.value_length", "%s.attention.sliding_window_pattern", "tokenizer.ggml.unknown_token_id",
    "tokenizer.ggml.add_bos_token", "tokenizer.ggml.add_space_prefix", "%s.rope.freq_base", "%s.rope.freq_base_swa",
    "tokenizer.ggml.padding_token_id", "%s.feed_forward_length", "%s.attention.head_count_kv",
}  # fmt: skip
# What the graph assumes where they say nothing.
DEEPSEEK = {"%s.sample_from_anchor", "%s.has_confidence_head"}
OTHERWISE = {"general.name", "tokenizer.ggml.scores", "tokenizer.ggml.token_type", "tokenizer.ggml.tokens",
             "%s.feed_forward_length"}  # fmt: skip


def theirs(src: Path, out: Path, *more: str) -> GGUF:
    command = [PYTHON, "-c", WRAPPER, str(SOURCES), str(src), "--outtype", "f32", "--outfile", str(out), *more]
    done = subprocess.run(command, check=False, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": ""})
    assert done.returncode == 0, done.stderr[-2000:]
    return GGUF.open(out)


def compare(ours: GGUF, other: GGUF, *, lacks: frozenset[str] = frozenset()) -> None:
    """`lacks` are tensors that only theirs has."""
    assert ours.arch == other.arch
    assert set(other.tensors) - set(ours.tensors) == set(lacks)
    assert not set(ours.tensors) - set(other.tensors)
    for name, info in ours.tensors.items():
        assert info.has_shape(*other.tensors[name].shape), name
        if info.type.name == "I64":
            np.testing.assert_array_equal(ours.ints(name), other.ints(name), err_msg=name)
        else:
            a, b = (f.rows(name, slice(None)) for f in (ours, other))
            np.testing.assert_allclose(a, b, rtol=2e-7, err_msg=name)
    mine, other_keys = set(ours.header.entries), set(other.header.entries)

    def named(keys: set[str]) -> set[str]:
        return {key.replace("%s", ours.arch) for key in keys}

    assert not other_keys - mine - named(THEIRS), sorted(other_keys - mine - named(THEIRS))
    assert not mine - other_keys - named(OURS), sorted(mine - other_keys - named(OURS))
    for key in sorted(mine & other_keys - named(OTHERWISE)):
        a, b = ours.meta(key), other.meta(key)
        assert a == pytest.approx(b) if isinstance(a, float) else a == b, key


@pytest.mark.parametrize("family", [f for f in CONFIGS if not f.startswith("gemma4")])
def test_targets(tmp_path: Path, family: str) -> None:
    """Every tensor to the last bit of F32 (to two for llama3's rope factors), every key that the graph reads."""
    src = Model(family, CONFIGS[family]).write(tmp_path / "src")
    if not family.startswith("qwen"):
        (src / "tokenizer.json").unlink()
        (src / "tokenizer.model").write_bytes(test_sentencepiece.proto(prefix="gemma" not in family))
        checkpoints.edit(src, eos_token_id=2)
        (src / "tokenizer_config.json").write_text(json.dumps({"bos_token": "<s>", "eos_token": "</s>"}))
    compare(GGUF.open(convert_target(src, tmp_path / "ours.gguf", type="F32")), theirs(src, tmp_path / "theirs.gguf"))


@pytest.mark.parametrize("kind", ["deepspec", "speculators", "lfm2", "dflash"])
def test_drafters(tmp_path: Path, kind: str) -> None:
    """The same; what they make of a drafter with heads of the target's is in test_repair.py."""
    family, config = DRAFTS[kind]
    src = Model(family, CONFIGS[family]).write(tmp_path / "T")
    draft = checkpoints.write(tmp_path / "D", config, Draft(kind, config).tensors, tokenized=False)
    ours = GGUF.open(convert_draft(draft, src, tmp_path / "ours.gguf", type="F32"))
    compare(ours, theirs(draft, tmp_path / "theirs.gguf", "--target-model-dir", str(src)))


def test_a_drafter_of_deepseek_v4(tmp_path: Path) -> None:
    """Codes of experts to the bit; what is FP8 they round to Q8_0, whatever type is asked for."""
    src = Model("qwen3", TARGET).write(tmp_path / "T")
    draft = Drafter(fp8=False).write(tmp_path / "D", architectures=["DeepseekV4DSparkModel"])
    ours = GGUF.open(convert_draft(draft, src, tmp_path / "ours.gguf", type="F32"))
    other = theirs(draft, tmp_path / "theirs.gguf", "--target-model-dir", str(src))
    assert set(ours.tensors) == set(other.tensors)
    for name, info in ours.tensors.items():
        assert info.has_shape(*other.tensors[name].shape), name
        a, b = (f.rows(name, slice(None)) for f in (ours, other))
        if other.tensors[name].type.name == "Q8_0":
            assert np.abs(a - b).max() <= np.abs(a).max() / 250, name
        else:
            np.testing.assert_array_equal(a, b, err_msg=name)
    lacks = [key for key in ours.header.entries if key not in other.header.entries]
    assert {key.replace("dflash", "%s") for key in lacks} <= OURS | DEEPSEEK
    for key in set(ours.header.entries) - set(lacks) - {k.replace("%s", "dflash") for k in OTHERWISE}:
        a, b = ours.meta(key), other.meta(key)
        assert a == (pytest.approx(b) if isinstance(a, float) else b), key
