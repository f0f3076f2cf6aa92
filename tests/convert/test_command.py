"""The convert command: a folder in, a file out, one line when it does not work."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from dspark_local.formats.inspection import inspect_files
from dspark_local.models.locations import beside
from tests.convert import checkpoints
from tests.convert.test_packed import packed_model, written

COMMAND = Path(sys.executable).with_name("dspark-local" + (".exe" if os.name == "nt" else ""))


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([COMMAND, "convert", *arguments], cwd=folder, capture_output=True, text=True, check=False)


def test_a_pair_is_converted_and_named_by_convention(tmp_path: Path) -> None:
    """The drafter's name is the one by which it is found beside its target."""
    checkpoints.target(tmp_path / "Tiny")
    checkpoints.draft(tmp_path / "tiny_block4")
    assert run(tmp_path, "target", "Tiny", "--to", "q8_0").stdout == "Tiny-Q8_0.gguf\n"
    assert run(tmp_path, "draft", "tiny_block4", "--target", "Tiny", "--to", "F16").stdout == "dspark-Tiny-F16.gguf\n"
    inspect_files(tmp_path / "Tiny-Q8_0.gguf", tmp_path / "dspark-Tiny-F16.gguf")


def test_what_does_not_work_is_one_line(tmp_path: Path) -> None:
    """Exit code 2, nothing on standard output."""
    checkpoints.target(tmp_path / "Tiny")
    for arguments in (("target", "nowhere"), ("target", "Tiny", "--to", "Q3_Z"), ("target", "Tiny", "--out", ".")):
        done = run(tmp_path, *arguments)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
        assert done.stderr.startswith("dspark-local: ")


def test_a_drafter_lies_beside_its_target(tmp_path: Path) -> None:
    """Named after what the target's files of all types have in common, so that one drafter is found for them all."""
    checkpoints.target(tmp_path / "Tiny")
    checkpoints.draft(tmp_path / "tiny_block4")
    target = tmp_path / "models" / "Tiny-BF16.gguf"
    target.parent.mkdir()
    assert run(tmp_path, "target", "Tiny", "--to", "BF16", "--out", str(target)).returncode == 0
    draft = target.with_name("dspark-Tiny-Q8_0.gguf")
    for name in (target.name, "Tiny-Q4_K_M.gguf", "Tiny-Q4_K_M-00001-of-00002.gguf"):
        named = target.rename(target.with_name(name))
        done = run(tmp_path, "draft", "tiny_block4", "--target", str(named), "--to", "Q8_0")
        assert done.stdout == f"{draft}\n"
        assert beside(named) == draft
        target = named


def test_by_default_llama_cpp_quantises(tmp_path: Path) -> None:
    """To Q4_K_M, after it is told how large that will be."""
    checkpoints.target(tmp_path / "Tiny")
    done = run(tmp_path, "target", "Tiny")
    assert (done.returncode, done.stdout) == (0, "Tiny-Q4_K_M.gguf\n")
    assert done.stderr.startswith("dspark-local: Tiny-Q4_K_M.gguf will take 0.00 GB")
    inspect_files(tmp_path / "Tiny-Q4_K_M.gguf")


def test_kept_weights_are_reported(tmp_path: Path) -> None:
    """A line for each; a type that would quantise them again is refused."""
    model, tensors = packed_model("gptq", symmetric=True)
    written(tmp_path / "Tiny", model, tensors)
    done = run(tmp_path, "target", "Tiny")
    assert (done.returncode, done.stdout) == (0, "Tiny-F32.gguf\n")
    assert "blk.0.attn_q.weight              Q4_0   exact" in done.stderr.splitlines()
    assert len(done.stderr.splitlines()) == 7 * model.layers
    refused = run(tmp_path, "target", "Tiny", "--to", "Q4_K_M")
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert "4-bit weights, which are kept" in refused.stderr
