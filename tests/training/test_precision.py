"""A drafter learns in the numbers that the device has instructions for."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="training needs torch, an extra")

from dspark_local.training.optimiser import orthogonalise  # noqa: E402 - after the skip
from dspark_local.training.precision import quicker  # noqa: E402


def test_a_cpu_without_instructions_for_bfloat16_multiplies_float32() -> None:
    """What trying both says is what the CPU says of itself."""
    has = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    if has.get("architecture") != "x86_64":
        pytest.skip("torch names the instructions of other CPUs otherwise")
    native = has["avx512_bf16"] or has["amx_bf16"]
    assert quicker("cpu") is (torch.bfloat16 if native else torch.float32)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_matrices_become_orthogonal_in_their_own_precision(dtype: torch.dtype) -> None:
    """Singular values end near one, for wide and for tall matrices."""
    for shape in ((2, 8, 24), (2, 24, 8)):
        given = torch.randn(shape, generator=torch.Generator().manual_seed(1)).to(dtype)
        made = orthogonalise(given)
        assert made.dtype is torch.float32
        values = torch.linalg.svdvals(made)
        assert 0.6 < values.min() <= values.max() < 1.3
