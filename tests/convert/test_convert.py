"""A conversion as a whole: what it makes runs, and one that is stopped leaves nothing that looks finished."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest

import dspark_local
from dspark_local.convert import convert_draft, convert_target
from dspark_local.errors import ConvertError
from dspark_local.formats.gguf import GGUF
from dspark_local.formats.inspection import inspect_files
from tests.convert import checkpoints

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("kind", ["F16", "BF16", "Q8_0", "Q4_0"])
def test_a_converted_pair_runs(tmp_path: Path, kind: str) -> None:
    """Target and drafter of every type load in llama.cpp and answer."""
    src = checkpoints.target(tmp_path / "T")
    target = convert_target(src, tmp_path / f"T-{kind}.gguf", type=kind)
    drafter = convert_draft(checkpoints.draft(tmp_path / "D"), src, tmp_path / f"dspark-T-{kind}.gguf", type=kind)
    inspect_files(target, drafter)
    with dspark_local.load(target, ctx_size=128, threads=1) as runtime:
        assert runtime.info.drafter == "dspark, lookup"
        assert runtime.generate("the thing", max_tokens=8).result().stats.rounds > 0


def test_an_unknown_type_is_refused(tmp_path: Path) -> None:
    """With the names that there are."""
    with pytest.raises(ConvertError, match="Q4_0"):
        convert_target(checkpoints.target(tmp_path / "T"), tmp_path / "t.gguf", type="Q3_Z")


def test_progress_counts_every_byte(tmp_path: Path) -> None:
    """It rises to the total, which is the size of the tensors."""
    seen: list[tuple[int, int]] = []
    src = checkpoints.target(tmp_path / "T")
    out = convert_target(src, tmp_path / "t.gguf", type="Q4_0", progress=lambda *at: seen.append(at))
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})
    assert seen[-1][0] == seen[-1][1] == sum(t.nbytes for t in GGUF.open(out).tensors.values())


def test_a_kill_leaves_nothing_that_looks_finished(tmp_path: Path) -> None:
    """Killed at any tensor, the output is absent; run again, it is whole."""
    src, out = checkpoints.target(tmp_path / "T"), tmp_path / "out" / "t.gguf"
    out.parent.mkdir()
    script = (
        "import os, signal, sys; from pathlib import Path; from dspark_local.convert import convert_target\n"
        "kill = lambda done, of: done > of // 2 and os.kill(os.getpid(), signal.SIGKILL)\n"
        "convert_target(Path(sys.argv[1]), Path(sys.argv[2]), type='F16', progress=kill)"
    )
    done = subprocess.run([sys.executable, "-P", "-c", script, src, out], check=False, timeout=60)
    assert done.returncode == -signal.SIGKILL
    assert not list(out.parent.glob("*.gguf"))
    GGUF.open(convert_target(src, out, type="F16"))


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    """The system's own words, and no traceback."""
    with pytest.raises(ConvertError, match="cannot be written to: No such file"):
        convert_target(checkpoints.target(tmp_path / "T"), tmp_path / "nowhere" / "t.gguf", type="F16")


def test_a_full_disk_is_one_line_and_the_part_is_gone(tmp_path: Path) -> None:
    """As with a limit on the size of files, which the system enforces in the midst of a tensor."""
    src, out = checkpoints.target(tmp_path / "T"), tmp_path / "out" / "t.gguf"
    out.parent.mkdir()
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limit[1]))
    try:
        with pytest.raises(ConvertError, match="cannot be written: File too large"):
            convert_target(src, out, type="F32")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert not list(out.parent.iterdir())


def test_a_failure_keeps_the_file_that_was_there(tmp_path: Path) -> None:
    """A conversion that ends in an error does not touch an older file of the name."""
    out = convert_target(src := checkpoints.target(tmp_path / "T"), tmp_path / "t.gguf", type="F16")
    before = out.read_bytes()
    tensors = checkpoints.target_tensors()
    tensors["model.layers.2.mlp.down_proj.weight"][-1, -1] = np.nan
    checkpoints.write(src, checkpoints.config(), tensors)
    with pytest.raises(ConvertError, match="NaN"):
        convert_target(src, out, type="F16")
    assert out.read_bytes() == before


def test_a_weight_that_f16_cannot_hold_is_refused(tmp_path: Path) -> None:
    """By its tensor's name, rather than written as an infinity; BF16 holds it."""
    tensors = checkpoints.target_tensors()
    tensors["model.layers.0.mlp.down_proj.weight"][0, 0] = 1e5
    src = checkpoints.write(tmp_path / "T", checkpoints.config(), tensors)
    with pytest.raises(ConvertError, match=r"blk\.0\.ffn_down\.weight is beyond what F16 holds"):
        convert_target(src, tmp_path / "t.gguf", type="F16")
    convert_target(src, tmp_path / "t.gguf", type="BF16")
