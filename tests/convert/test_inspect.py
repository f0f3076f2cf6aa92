"""What a file is, told in a table."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from dspark_local.cli.main import main
from dspark_local.convert import convert_draft, convert_target
from dspark_local.errors import ModelError
from dspark_local.formats.facts import facts, fits
from dspark_local.formats.gguf import GGUF
from tests.convert import checkpoints
from tests.convert.deepseek import TARGET_SHARD, Drafter
from tests.convert.drafters import pair
from tests.convert.test_packed import packed_model, written
from tests.formats import tiny
from tests.formats.mutants import Nursery

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def shown(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, str]:
    assert main(["inspect", *map(str, arguments)]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line]
    return {line[:18].strip(): line[18:].strip() for line in lines}


def test_a_target_and_its_drafter(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Sizes, types, tokenizer, block, taps and heads; and that the two fit."""
    src = checkpoints.target(tmp_path / "T")
    convert_target(src, tmp_path / "T-Q8_0.gguf", type="Q8_0")
    convert_draft(checkpoints.draft(tmp_path / "D"), src, tmp_path / "dspark-T-F16.gguf", type="F16")
    told = shown(capsys, tmp_path / "T-Q8_0.gguf")
    assert told["architecture"] == "qwen3"
    assert told["types"].startswith("Q8_0 9")
    assert told["layers"] == "3 of width 64, 96 within"
    assert told["heads"] == "2 of 32, sharing 1 of keys and values"
    assert told["tokenizer"] == "gpt2, pre-tokenizer qwen2"
    assert told["vocabulary"] == "300 tokens; eos 297 <|im_end|>, padding 298 <|endoftext|>"
    assert told["chat template"] == f"{len(checkpoints.TEMPLATE)} characters"
    assert told["check"] == "sound"
    assert told["dspark-T-F16.gguf"] == "fits"
    told = shown(capsys, tmp_path / "dspark-T-F16.gguf")
    assert told["drafter"] == "DSpark, Markov head of rank 32, a confidence head"
    assert told["block"] == "4 tokens, the anchor drafts, not causal"
    assert told["taps"] == "inputs of layers 1, 2 of the target"
    assert told["heads of words"] == "embedding the target's, head the target's"
    assert told["T-Q8_0.gguf"] == "fits"


def test_why_a_pair_does_not_fit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The reason stands beside the file; what is no model is told too, and drafters are not held against drafters."""
    pair(tmp_path, "speculators")
    tiny.target().write(tmp_path / "other.gguf")
    (tmp_path / "broken.gguf").write_bytes(b"GGUF")
    told = shown(capsys, tmp_path / "dspark-T-F16.gguf")
    assert told["T-F16.gguf"] == "fits"
    assert told["draft vocabulary"] == "160 of 300 tokens"
    assert told["block"] == "4 tokens, the anchor does not draft, not causal"
    assert told["other.gguf"] == "does not fit: its vocabulary has 300 tokens, the target's 264"
    assert told["broken.gguf"].startswith("does not fit: truncated")
    assert list(shown(capsys, tmp_path / "other.gguf", "--with", tmp_path / "T-F16.gguf"))[-1] == "check"


def test_checkpoints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What it is, and what `convert` would say."""
    told = shown(capsys, checkpoints.target(tmp_path / "T"))
    assert told["architecture"] == "Qwen3ForCausalLM"
    assert told["types"] == "F32 100 %"
    assert told["tokenizer"] == "gpt2, pre-tokenizer qwen2, 300 tokens"
    assert told["convert"] == "`dspark-local convert target` makes a GGUF of architecture qwen3 of it"
    told = shown(capsys, checkpoints.draft(tmp_path / "D"))
    assert told["convert"] == "`dspark-local convert draft` makes a GGUF of architecture dflash of it"
    told = shown(capsys, written(tmp_path / "Q", *packed_model("gptq")))
    assert told["weights"] == "packed (Gptq); codes of 4 bits are kept as they are"
    v4 = Drafter(fp8=False).write(tmp_path / "V4")
    (v4 / TARGET_SHARD).unlink()
    told = shown(capsys, v4)
    assert told["layers"] == "3 of width 192"
    assert told["missing"] == TARGET_SHARD
    assert told["convert"] == "`dspark-local convert draft` makes a GGUF of architecture dflash of it"
    told = shown(capsys, checkpoints.target(tmp_path / "M", architectures=["MambaForCausalLM"]))
    assert "MambaForCausalLM" in told["convert"]
    told = shown(capsys, checkpoints.target(tmp_path / "E", architectures=["Eagle3DraftModel"]))
    assert "Eagle3 drafter" in told["convert"]


def test_a_faulty_file_is_told_and_what_is_none_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A GGUF that llama.cpp would die of still gets its table."""
    bent = tiny.target().with_tensors({"output_norm.weight": None}).write(tmp_path / "bent.gguf")
    assert "output_norm.weight' is missing" in shown(capsys, bent)["check"]
    (tmp_path / "text.gguf").write_text("hello")
    for path in (tmp_path / "text.gguf", tmp_path / "nowhere", tmp_path):
        assert main(["inspect", str(path)]) == 2
        assert capsys.readouterr().err.count("\n") == 1


def test_any_damaged_file_gets_a_table_or_a_line(tmp_path: Path) -> None:
    """Of 80 damaged pairs: `inspect` is for files that are wrong."""
    nursery = Nursery(tmp_path)
    told = 0
    for index in range(80):
        mutant = nursery.mutant(index)
        for path, other in ((mutant.target, mutant.draft), (mutant.draft, mutant.target)):
            with contextlib.suppress(ModelError):
                gguf = GGUF.open(path)
                lines = [*facts(gguf), *fits(gguf, [other])]
                assert not any("\n" in label + value for label, value in lines), mutant.story
                told += 1
    assert told > 80
