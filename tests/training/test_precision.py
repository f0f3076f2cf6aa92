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


@pytest.mark.parametrize("shape", [(2, 8, 24), (2, 24, 8)])
def test_matrices_become_orthogonal_in_their_own_precision(shape: tuple[int, ...]) -> None:
    """Singular values end near one, for wide and for tall matrices; float32 is not rounded to bfloat16 on the way."""
    narrow = torch.randn(shape, generator=torch.Generator().manual_seed(1)).bfloat16()
    rounded, exact = orthogonalise(narrow), orthogonalise(narrow.float())
    for made in (rounded, exact):
        assert made.dtype is torch.float32
        values = torch.linalg.svdvals(made)
        assert 0.6 < values.min() <= values.max() < 1.3
    assert not torch.equal(rounded, exact)
