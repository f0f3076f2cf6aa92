"""What llama.cpp says reaches whom it is said to."""

from __future__ import annotations

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from dspark_local.backend.library import api, forget_errors, last_error, listening
from dspark_local.backend.model import Model
from dspark_local.errors import ModelFormatError
from tests.formats import tiny

if TYPE_CHECKING:
    from pathlib import Path


def test_a_reason_is_that_of_ones_own_call(tmp_path: Path) -> None:
    """Another thread that fails meanwhile, and says why, takes none away and adds none."""
    gone = ["output_norm.weight", "blk.0.attn_q.weight"]
    ours, theirs = (tiny.target().with_tensors({name: None}).write(tmp_path / f"{name}.gguf") for name in gone)

    def fails() -> str:
        try:
            Model(theirs)
        except ModelFormatError as error:
            return str(error)
        raise AssertionError("it lacks a tensor")

    forget_errors()
    with listening() as lines, ThreadPoolExecutor(1) as pool:
        assert not api.llama_model_load_from_file(str(ours).encode(), api.llama_model_default_params())
        heard = len(lines)
        assert gone[1] in pool.submit(fails).result()
    assert len(lines) == heard > 0
    assert gone[0] in last_error()


@pytest.mark.skipif(sys.platform != "linux", reason="names are bytes there only")
def test_a_name_that_is_no_text_loads(tmp_path: Path) -> None:
    """llama.cpp gets the bytes of a path as they are."""
    model = Model(tiny.target().write(tmp_path / os.fsdecode(b"t\xff.gguf")))
    assert model.arch == "qwen3"
    model.close()
