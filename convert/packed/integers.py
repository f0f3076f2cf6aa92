"""4-bit integers with scales and zeros per group: GPTQ, AWQ and compressed-tensors' pack-quantized.

Layouts: AutoGPTQ's and GPTQModel's qlinear (checkpoint formats gptq and gptq_v2), AutoAWQ's WQLinear_GEMM,
compressed-tensors' pack_quantized. llama.cpp's conversion/base.py has all but AWQ's, and dequantises them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dspark_local.convert.checkpoint import slabs
from dspark_local.convert.packed.blocks import SYMMETRIC, Bytes, Kept, Packed, block_groups, keep, nibbles
from dspark_local.convert.packed.parts import FLOATS, IN_ORDER, WORD, Module, columns, is_integer

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

_AWQ_ORDER = (0, 4, 1, 5, 2, 6, 3, 7)


@dataclass(frozen=True, slots=True)
class Gptq:
    """Codes [in / 8, out] in words along the inputs, zeros [groups, out / 8], scales [groups, out]."""

    zero_shift: int  # the older format stores zeros less 1
    group_size: int
    parts: tuple[str, ...] = ("qweight", "qzeros", "scales", "g_idx")

    def keep(self, module: Module) -> Kept:
        """See Scheme."""
        words = module.map("qweight")

        def codes(rows: slice) -> Bytes:
            return nibbles(np.ascontiguousarray(words[:, rows].T))

        shape = (words.shape[1], words.shape[0] * WORD)
        return _keep(module, shape, codes, lambda zeros: zeros + self.zero_shift, IN_ORDER, self.group_size)


@dataclass(frozen=True, slots=True)
class Awq:
    """Codes [in, out / 8] in words along the outputs, in an order of their own; zeros alike; scales [groups, out]."""

    group_size: int
    parts: tuple[str, ...] = ("qweight", "qzeros", "scales")

    def keep(self, module: Module) -> Kept:
        """See Scheme."""
        words = module.map("qweight")

        def codes(rows: slice) -> Bytes:
            return np.ascontiguousarray(columns(words, rows, _AWQ_ORDER).T.astype(np.uint8))

        shape = (words.shape[1] * WORD, words.shape[0])
        return _keep(module, shape, codes, lambda zeros: zeros, _AWQ_ORDER, self.group_size)


def _keep(
    module: Module,
    shape: tuple[int, int],
    codes: Callable[[slice], Bytes],
    zero: Callable[[npt.NDArray[np.int64]], npt.NDArray[np.int64]],
    order: tuple[int, ...],
    group_size: int,
) -> Kept:
    """Keep codes beside which scales and zeros lie by group first, as GPTQ and AWQ have them."""
    zeros, scales = module.map("qzeros"), module.map("scales")
    n_out, n_in = shape
    groups = module.groups(n_in, group_size)
    module.expect(scales.shape == (groups.max() + 1, n_out), zeros.shape == (len(scales), n_out // WORD))
    packed = Packed(
        module.name,
        shape,
        block_groups(module.name, groups),
        codes,
        lambda rows: module.floats("scales", scales[:, rows]).T,
        lambda rows: zero(columns(zeros, rows, order).T),
    )
    return keep(packed, list(slabs(shape)))


@dataclass(frozen=True, slots=True)
class PackQuantized:
    """Codes [out, in / 8] along the inputs, scales [out, groups], zeros if any [out / 8, groups]."""

    parts: tuple[str, ...] = ("weight_packed", "weight_scale", "weight_shape", "weight_zero_point", "weight_g_idx")

    def keep(self, module: Module) -> Kept:
        """See Scheme."""
        words, scales, shape = (module.map(part) for part in self.parts[:3])
        module.expect(shape.shape == (2,), is_integer(words, 4), module.dtype("weight_scale") in FLOATS)
        n_out, n_in = int(shape[0]), int(shape[1])
        module.expect(n_out > 0, n_in > 0, scales.shape[1] > 0, len(scales) == n_out)
        module.expect(words.shape == (n_out, -(-n_in // WORD)))
        groups = module.groups(n_in, n_in // scales.shape[1], "weight_g_idx")
        module.expect(scales.shape[1] == groups.max() + 1)
        zeros = module.map("weight_zero_point") if "weight_zero_point" in module.parts else None
        module.expect(zeros is None or zeros.shape == (-(-n_out // WORD), scales.shape[1]))

        def zero(rows: slice) -> npt.NDArray[Any]:
            if zeros is None:
                return np.full((rows.stop - rows.start, scales.shape[1]), SYMMETRIC)
            return columns(zeros.T, rows).T

        packed = Packed(
            module.name,
            (n_out, n_in),
            block_groups(module.name, groups),
            lambda rows: nibbles(words[rows])[:, :n_in],
            lambda rows: module.floats("weight_scale", scales[rows]),
            zero,
        )
        return keep(packed, list(slabs(packed.shape)))
