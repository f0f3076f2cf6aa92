"""Which type each tensor gets, and its bytes in that type."""

from __future__ import annotations

from collections import Counter
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from gguf import GGMLQuantizationType, LlamaFileType
from gguf.quants import quantize

from dspark_local.errors import ConvertError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dspark_local.convert.checkpoint import Floats


class Type(StrEnum):
    """What a file's matrices are stored as."""

    F32 = "F32"
    F16 = "F16"
    BF16 = "BF16"
    Q8_0 = "Q8_0"
    Q4_0 = "Q4_0"


# A 4-bit file keeps its vocabulary matrices at 8 bits, as llama.cpp's recipes keep them above the rest.
_VOCABULARY = ("token_embd.weight", "output.weight", "markov_w1.weight", "markov_w2.weight")
# One row, or few: nothing to gain; and what decides over experts and streams is stored as F32 by those who train it.
_ALWAYS_F32 = ("conf_proj.weight", "ffn_gate_inp.weight", "hc_attn_fn.weight", "hc_ffn_fn.weight", "hc_fn.weight")
_FILE_TYPES = {
    Type.F32: LlamaFileType.ALL_F32,
    Type.F16: LlamaFileType.MOSTLY_F16,
    Type.BF16: LlamaFileType.MOSTLY_BF16,
    Type.Q8_0: LlamaFileType.MOSTLY_Q8_0,
    Type.Q4_0: LlamaFileType.MOSTLY_Q4_0,
}

_KEPT_TYPES = {
    GGMLQuantizationType.Q4_0: LlamaFileType.MOSTLY_Q4_0,
    GGMLQuantizationType.Q4_1: LlamaFileType.MOSTLY_Q4_1,
    GGMLQuantizationType.MXFP4: LlamaFileType.MOSTLY_MXFP4_MOE,
    GGMLQuantizationType.NVFP4: LlamaFileType.MOSTLY_NVFP4,
}


def parse(name: str) -> Type:
    """A type by its name. Raises ConvertError with the names that there are."""
    try:
        return Type(name.upper())
    except ValueError:
        raise ConvertError(f"no type named {name}; one of {', '.join(Type)}") from None


def file_type(kind: Type, kinds: Iterable[GGMLQuantizationType]) -> int:
    """llama.cpp's number for a file of this type; or of that of the codes among `kinds` that it keeps, if any."""
    codes = Counter(k for k in kinds if k in _KEPT_TYPES and k.name != kind).most_common(1)
    return int(_KEPT_TYPES[codes[0][0]] if codes else _FILE_TYPES[kind])


def type_of(name: str, shape: tuple[int, ...], kind: Type) -> GGMLQuantizationType:
    """Type of one tensor in a file of type `kind`. Raises ConvertError when its rows do not divide into blocks."""
    if len(shape) < 2 or name.endswith(_ALWAYS_F32):  # noqa: PLR2004 - vectors
        return GGMLQuantizationType.F32
    if kind is Type.Q4_0 and name in _VOCABULARY:
        kind = Type.Q8_0
    if kind in (Type.Q8_0, Type.Q4_0) and shape[-1] % 32:
        raise ConvertError(f"rows of {name} have {shape[-1]} numbers, not a multiple of 32; convert to F16")
    return GGMLQuantizationType[kind]


def encode(name: str, values: Floats, kind: GGMLQuantizationType) -> npt.NDArray[Any]:
    """Rows of tensor `name` in their GGUF type: floats of that width, or bytes.

    Raises ConvertError for what F16 cannot hold.
    """
    if kind is GGMLQuantizationType.F32:
        return values
    if kind is GGMLQuantizationType.F16:
        if np.abs(values).max(initial=0) > np.finfo(np.float16).max:
            raise ConvertError(f"a weight of {name} is beyond what F16 holds; convert to BF16")
        return values.astype(np.float16)
    encoded: npt.NDArray[Any] = quantize(values, kind)
    return encoded
