"""How a model's makers want it sampled."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from dspark_local.formats.gguf import GGUF
from dspark_local.formats.preset import read_preset
from dspark_local.types import SamplingParams
from tests.formats import tiny
from tests.formats.tiny import F32, I32, STR

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_metadata_is_the_preset(tmp_path: Path) -> None:
    """Under llama.cpp's keys; what a file does not say is off."""
    plain = tiny.target()
    assert read_preset(GGUF.open(plain.write(tmp_path / "plain.gguf"))) == SamplingParams()
    sampled = plain.with_keys(
        general__sampling__temp=(F32, 0.6),
        general__sampling__top_k=(I32, 20),
        general__sampling__top_p=(F32, 0.95),
        general__sampling__penalty_repeat=(F32, 1.05),
    )
    preset = read_preset(GGUF.open(sampled.write(tmp_path / "sampled.gguf")))
    assert preset == SamplingParams(temperature=0.6, top_k=20, top_p=0.95, repeat_penalty=1.05)


def test_nonsense_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """With a warning that names the key; the rest counts."""
    odd = tiny.target().with_keys(
        general__sampling__temp=(STR, "hot"), general__sampling__top_p=(F32, 7.0), general__sampling__min_p=(F32, 0.1)
    )
    with caplog.at_level(logging.WARNING):
        assert read_preset(GGUF.open(odd.write(tmp_path / "odd.gguf"))) == SamplingParams(min_p=0.1)
    assert [r.args[1] for r in caplog.records if r.args] == ["temp", "top_p"]
