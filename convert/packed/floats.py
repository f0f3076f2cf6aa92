"""Small floats with scales per block: MXFP4 and NVFP4, which ggml has types for, and FP8, which it has not.

Layouts: compressed-tensors' mxfp4-pack-quantized and nvfp4-pack-quantized, ModelOpt's NVFP4, and DeepSeek-V4's, whose
experts are MXFP4 and whose other matrices are FP8 (llama.cpp's conversion/deepseek.py). E4M3 and E8M0 are OCP's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from gguf import GGMLQuantizationType

from dspark_local.convert.packed.blocks import BLOCK, Bytes, Kept, paired, unpaired
from dspark_local.convert.packed.parts import Module, is_integer
from dspark_local.convert.plain import Plain
from dspark_local.errors import ConvertError

if TYPE_CHECKING:
    from dspark_local.convert.checkpoint import Floats

_NV_BLOCK, _NV_GROUP = 64, 16
_NAN = 255  # of E8M0


@dataclass(frozen=True, slots=True)
class Mxfp4:
    """Codes [out, in / 2] in bytes, an E8M0 exponent for 32 inputs; ggml's block has both."""

    parts: tuple[str, ...] = ("weight_packed", "weight_scale")

    def keep(self, module: Module) -> Kept:
        """See Scheme."""
        codes, exponents = (module.map(part) for part in self.parts)
        module.expect(is_integer(codes, 1), is_integer(exponents, 1), codes.shape[1] * 2 % BLOCK == 0)
        module.expect(exponents.shape == (len(codes), codes.shape[1] * 2 // BLOCK))
        codes, exponents = codes.view(np.uint8), exponents.view(np.uint8)
        if (exponents == _NAN).any():
            raise ConvertError(f"the scales of {module.name} hold NaN; the checkpoint is damaged")

        def rows_of(rows: slice) -> Bytes:
            blocks = unpaired(codes[rows]).reshape(rows.stop - rows.start, -1, BLOCK)
            return np.concatenate((exponents[rows][..., None], paired(blocks)), -1).reshape(len(blocks), -1)

        return Kept((len(codes), codes.shape[1] * 2), GGMLQuantizationType.MXFP4, rows_of, 0.0)


@dataclass(frozen=True, slots=True)
class Nvfp4:
    """Codes [out, in / 2] in bytes, an E4M3 scale for 16 inputs, one F32 for the whole, which ggml keeps beside."""

    parts: tuple[str, ...]
    inverted: bool  # compressed-tensors divides by the scale of the whole, ModelOpt multiplies

    def keep(self, module: Module) -> Kept:
        """See Scheme."""
        codes, scales, whole = (module.map(part) for part in self.parts[:3])
        n_in = codes.shape[1] * 2
        module.expect(is_integer(codes, 1), module.dtype(self.parts[0]) != "F8_E4M3", n_in % _NV_BLOCK == 0)
        module.expect(is_integer(scales, 1), whole.size == 1)
        module.expect(scales.shape == (len(codes), n_in // _NV_GROUP))
        factor = float(module.floats(self.parts[2], whole).reshape(-1)[0])
        if not np.isfinite(factor) or factor <= 0:
            raise ConvertError(
                f"the scale of {module.name} is {factor}, not a number above 0; the checkpoint is damaged"
            )

        def rows_of(rows: slice) -> Bytes:
            groups = unpaired(codes[rows]).reshape(rows.stop - rows.start, -1, 4, _NV_GROUP)
            heads = scales[rows].reshape(len(groups), -1, 4) & 0x7F  # ggml's scales have no sign
            return np.concatenate((heads, paired(groups).reshape(*heads.shape[:2], -1)), -1).reshape(len(groups), -1)

        if (scales & 0x80).any():
            raise ConvertError(f"{module.name} has a scale below 0, which ggml's NVFP4 cannot hold")
        scale = 1 / factor if self.inverted else factor
        return Kept((len(codes), n_in), GGMLQuantizationType.NVFP4, rows_of, 0.0, scale)


@dataclass(frozen=True, slots=True)
class Fp8OrMxfp4:
    """Matrices of E4M3 bytes with an E8M0 exponent for each block [rows, columns]; or MXFP4, told by the type."""

    block: tuple[int, int]
    parts: tuple[str, ...] = ("weight", "scale")

    def keep(self, module: Module) -> Kept | Plain:
        """See Scheme."""
        codes, exponents = (module.map(part) for part in self.parts)
        if module.dtype("weight") != "F8_E4M3":
            return Mxfp4(self.parts).keep(module)
        high, wide = self.block
        module.expect(exponents.shape == (-(-len(codes) // high), -(-codes.shape[1] // wide)))

        def read(rows: slice) -> Floats:
            start, stop, _ = rows.indices(len(codes))
            scales = E8M0[exponents[start // high : -(-stop // high)]]
            scales = scales.repeat(high, 0)[start % high :][: stop - start].repeat(wide, 1)[:, : codes.shape[1]]
            values: Floats = E4M3[codes[start:stop]] * scales
            if not np.isfinite(values).all():
                raise ConvertError(f"tensor {module.parts['weight']} holds NaN; the checkpoint is damaged")
            return values

        return Plain(codes.shape, "", read, read)


def _e4m3() -> Floats:
    """Numbers of the 256 bytes: sign, 4 bits of exponent with bias 7, 3 of fraction; S.1111.111 alone is NaN."""
    byte = np.arange(128)
    exponent, fraction = byte >> 3, byte & 7
    values = np.where(exponent == 0, fraction / 512, (8 + fraction) * 2.0 ** (exponent - 10))
    values[-1] = np.nan
    return np.concatenate((values, -values)).astype(np.float32)


E4M3 = _e4m3()
E8M0 = np.append(np.ldexp(np.float32(1), np.arange(_NAN) - 127), np.float32(np.nan))  # OCP's, an exponent only
