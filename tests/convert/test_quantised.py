"""Types that llama.cpp's quantiser makes: the sizes it foretells, importance matrices, and what is left behind."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from gguf import GGUFWriter

from dspark_local.backend import quantise
from dspark_local.cli.quantised import convert_quantised
from dspark_local.convert import convert_target, exact_type, outline_target
from dspark_local.errors import ConvertError, ModelError
from dspark_local.formats.gguf import GGUF
from tests.convert import checkpoints
from tests.convert.configs import CONFIGS
from tests.convert.families import Model
from tests.convert.test_families import TOKENS, logits_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def quantised(src: Path, path: Path, recipe: str, imatrix: Path | None = None) -> list[str]:
    said: list[str] = []
    convert_quantised(src, path, recipe, imatrix=imatrix, threads=1, say=said.append, progress=lambda *_: None)
    return said


def imatrix(path: Path, sums: dict[str, np.ndarray]) -> Path:
    """As llama-imatrix writes it."""
    writer = GGUFWriter(path, "none")
    writer.add_type("imatrix")
    for name, values in sums.items():
        writer.add_tensor(f"{name}.in_sum2", values.reshape(1, -1).astype(np.float32))
        writer.add_tensor(f"{name}.counts", np.full((1, 1), 4, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize("recipe", ["Q4_0", "Q4_K_M", "Q6_K", "IQ4_NL"])
def test_every_recipe_runs_and_stays_near(tmp_path: Path, recipe: str) -> None:
    """The file loads, its logits are near the checkpoint's, and nothing else is left in the folder."""
    model = Model("qwen3", CONFIGS["qwen3"])
    (tmp_path / "out").mkdir()
    path = tmp_path / "out" / "t.gguf"
    (said,) = quantised(model.write(tmp_path / "src"), path, recipe)
    assert said.startswith("t.gguf will take ")
    expected = model.forward(TOKENS)
    error = np.sqrt(((logits_of(path, TOKENS) - expected) ** 2).mean() / (expected**2).mean())
    assert error < 0.4, error  # random weights are the hardest; an unrelated model would be at 1.4
    assert [p.name for p in path.parent.iterdir()] == ["t.gguf"]


@pytest.mark.parametrize("recipe", ["Q4_0", "Q5_K_M"])
def test_the_estimate_is_the_size(tmp_path: Path, recipe: str) -> None:
    """What is foretold of an outline, whose data is a hole, is what the tensors take."""
    src = checkpoints.target(tmp_path / "src")
    foretold = quantise.estimate(outline_target(src, tmp_path / "o.gguf", type="F32"), recipe)
    quantised(src, tmp_path / "t.gguf", recipe)
    took = sum(t.nbytes for t in GGUF.open(tmp_path / "t.gguf").tensors.values())
    assert abs(foretold - took) < 0.01 * (1 << 20)  # it is told in MiB of two digits


def test_an_outline_is_the_header_of_the_file(tmp_path: Path) -> None:
    """Same keys, same tensors, same places."""
    src = checkpoints.target(tmp_path / "src")
    outline = GGUF.open(outline_target(src, tmp_path / "o.gguf", type="BF16"))
    whole = GGUF.open(convert_target(src, tmp_path / "t.gguf", type="BF16"))
    assert outline.header == whole.header


def test_the_exact_type_is_the_checkpoints(tmp_path: Path) -> None:
    """So that quantising starts from what was trained."""
    assert exact_type(checkpoints.target(tmp_path / "src")) == "F32"


def test_importance_changes_the_codes(tmp_path: Path) -> None:
    """A matrix whose inputs matter unequally is quantised otherwise than one whose inputs all count alike."""
    src = checkpoints.target(tmp_path / "src")
    weights = {"blk.0.ffn_up.weight": np.linspace(0.001, 4, checkpoints.HIDDEN) ** 4}
    quantised(src, tmp_path / "plain.gguf", "Q4_0")
    quantised(src, tmp_path / "told.gguf", "Q4_0", imatrix(tmp_path / "i.gguf", weights))
    plain, told = (GGUF.open(tmp_path / f"{name}.gguf") for name in ("plain", "told"))
    assert not np.array_equal(*(f.rows("blk.0.ffn_up.weight", slice(None)) for f in (plain, told)))
    np.testing.assert_array_equal(*(f.rows("blk.1.ffn_up.weight", slice(None)) for f in (plain, told)))


@pytest.mark.parametrize(
    ("breaks", "says"),
    [
        (lambda _: {"recipe": "Q3_Z"}, "no type named Q3_Z"),
        (lambda f: {"imatrix": f / "none.gguf"}, "no such file"),
        (lambda f: {"imatrix": imatrix(f / "i.gguf", {"x": np.full(4, np.nan)})}, "no importance matrix"),
        (lambda f: {"imatrix": imatrix(f / "i.gguf", {"blk.0.ffn_up.weight": np.ones(7)})}, "imatrix size"),
    ],
)
def test_what_does_not_work_is_a_line_and_leaves_nothing(
    tmp_path: Path, breaks: Callable[[Path], dict[str, object]], says: str
) -> None:
    """Also where llama.cpp finds out in the middle."""
    src = checkpoints.target(tmp_path / "src")
    (tmp_path / "out").mkdir()
    told = breaks(tmp_path)
    with pytest.raises(ModelError, match=says) as raised:
        quantised(src, tmp_path / "out" / "t.gguf", str(told.get("recipe", "Q4_0")), told.get("imatrix"))  # type: ignore[arg-type]
    assert "\n" not in str(raised.value)
    assert not list((tmp_path / "out").iterdir())


def test_a_full_disk_is_told_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what there is and what is needed."""
    src = checkpoints.target(tmp_path / "src")
    monkeypatch.setattr("shutil.disk_usage", lambda _folder: type("Usage", (), {"free": 1000}))
    for convert in (lambda p: quantised(src, p, "Q4_K_M"), lambda p: convert_target(src, p, type="F16")):
        with pytest.raises(ConvertError, match="0 MiB free"):
            convert(tmp_path / "t.gguf")
    assert not list(tmp_path.glob("*.gguf*"))
