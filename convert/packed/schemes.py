"""Where each method keeps codes, scales and zeros: GPTQ, AWQ, compressed-tensors' int4, MXFP4 and NVFP4.

Layouts: AutoGPTQ's and GPTQModel's qlinear (checkpoint formats gptq and gptq_v2), AutoAWQ's WQLinear_GEMM,
compressed-tensors' pack_quantized and nvfp4, ModelOpt's NVFP4. llama.cpp's conversion/base.py has all but AWQ's, and
dequantises the integers among them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from gguf import GGMLQuantizationType

from dspark_local.convert.checkpoint import slabs
from dspark_local.convert.packed.blocks import (
    BLOCK,
    SYMMETRIC,
    Bytes,
    Kept,
    Packed,
    block_groups,
    keep,
    nibbles,
    paired,
    unpaired,
)
from dspark_local.errors import ConvertError

if TYPE_CHECKING:
    import numpy.typing as npt

    from dspark_local.convert.checkpoint import Checkpoint, Floats

_WORD = 8  # codes in 32 bits
_FLOATS, _INTS, _BYTES = ("F16", "BF16", "F32"), ("I32",), ("U8", "I8")
_PARTS = {  # types and numbers of dimensions that a part may have
    "qweight": (_INTS, (2,)),
    "qzeros": (_INTS, (2,)),
    "scales": (_FLOATS, (2,)),
    "g_idx": (_INTS, (1,)),
    "weight": (_BYTES, (2,)),
    "weight_packed": ((*_INTS, *_BYTES), (2,)),
    "weight_scale": ((*_FLOATS, *_BYTES, "F8_E4M3", "F8_E8M0"), (2,)),
    "weight_shape": (("I64", "I32"), (1,)),
    "weight_zero_point": (_INTS, (2,)),
    "weight_g_idx": (_INTS, (1,)),
    "weight_scale_2": (("F32",), (0, 1)),
    "weight_global_scale": (("F32",), (0, 1)),
}
_AWQ_ORDER = (0, 4, 1, 5, 2, 6, 3, 7)  # nibble of each of eight neighbouring outputs
_NV_BLOCK, _NV_GROUP = 64, 16


class Scheme(Protocol):
    """A way to pack: the ends of its tensors' names, behind the module's, and how one module is kept."""

    @property
    def parts(self) -> tuple[str, ...]:
        """The ends; the second is in every packed module, and in no other."""

    def keep(self, checkpoint: Checkpoint, names: dict[str, str], module: str) -> Kept:
        """Keep one module; `names` maps ends to the checkpoint's names. Raises ConvertError."""


@dataclass(frozen=True, slots=True)
class Gptq:
    """Codes [in / 8, out] in words along the inputs, zeros [groups, out / 8], scales [groups, out]."""

    zero_shift: int  # the older format stores zeros less 1
    group_size: int
    parts: tuple[str, ...] = ("qweight", "qzeros", "scales", "g_idx")

    def keep(self, checkpoint: Checkpoint, names: dict[str, str], module: str) -> Kept:
        """See Scheme."""
        words, packed_zeros, scales = (_map(checkpoint, names, module, part) for part in self.parts[:3])
        n_in, n_out = words.shape[0] * _WORD, words.shape[1]
        groups = _groups(checkpoint, names, module, n_in, self.group_size)
        _expect(module, scales.shape == (groups.max() + 1, n_out))
        _expect(module, packed_zeros.shape == (len(scales), n_out // _WORD))
        packed = Packed(
            module,
            (n_out, n_in),
            block_groups(module, groups),
            lambda rows: nibbles(np.ascontiguousarray(words[:, rows].T)),
            lambda rows: _floats(checkpoint, names["scales"], scales[:, rows]).T,
            lambda rows: _columns(packed_zeros, rows, tuple(range(_WORD))).T + self.zero_shift,
        )
        return keep(packed, list(slabs(packed.shape)))


@dataclass(frozen=True, slots=True)
class Awq:
    """Codes [in, out / 8] in words along the outputs, in an order of their own; zeros alike; scales [groups, out]."""

    group_size: int
    parts: tuple[str, ...] = ("qweight", "qzeros", "scales")

    def keep(self, checkpoint: Checkpoint, names: dict[str, str], module: str) -> Kept:
        """See Scheme."""
        words, packed_zeros, scales = (_map(checkpoint, names, module, part) for part in self.parts)
        n_in, n_out = words.shape[0], words.shape[1] * _WORD
        groups = _groups(checkpoint, names, module, n_in, self.group_size)
        _expect(module, scales.shape == (groups.max() + 1, n_out))
        _expect(module, packed_zeros.shape == (len(scales), n_out // _WORD))
        packed = Packed(
            module,
            (n_out, n_in),
            block_groups(module, groups),
            lambda rows: np.ascontiguousarray(_columns(words, rows, _AWQ_ORDER).T.astype(np.uint8)),
            lambda rows: _floats(checkpoint, names["scales"], scales[:, rows]).T,
            lambda rows: _columns(packed_zeros, rows, _AWQ_ORDER).T,
        )
        return keep(packed, list(slabs(packed.shape)))


@dataclass(frozen=True, slots=True)
class PackQuantized:
    """Codes [out, in / 8] along the inputs, scales [out, groups], zeros if any [out / 8, groups]."""

    parts: tuple[str, ...] = ("weight_packed", "weight_scale", "weight_shape", "weight_zero_point", "weight_g_idx")

    def keep(self, checkpoint: Checkpoint, names: dict[str, str], module: str) -> Kept:
        """See Scheme."""
        words, scales = (_map(checkpoint, names, module, part) for part in self.parts[:2])
        shape = _map(checkpoint, names, module, "weight_shape")
        _expect(
            module, shape.shape == (2,) and _is(words, 4) and checkpoint.tensors[names["weight_scale"]].dtype in _FLOATS
        )
        n_out, n_in = int(shape[0]), int(shape[1])
        _expect(module, n_out > 0 and n_in > 0)
        _expect(module, words.shape == (n_out, -(-n_in // _WORD)) and len(scales) == n_out and scales.shape[1] > 0)
        groups = _groups(checkpoint, names, module, n_in, n_in // scales.shape[1], "weight_g_idx")
        _expect(module, scales.shape[1] == groups.max() + 1)
        zeros = _map(checkpoint, names, module, "weight_zero_point") if "weight_zero_point" in names else None
        _expect(module, zeros is None or zeros.shape == (-(-n_out // _WORD), scales.shape[1]))

        def zero(rows: slice) -> npt.NDArray[np.int64]:
            if zeros is None:
                return np.full((rows.stop - rows.start, scales.shape[1]), SYMMETRIC)
            return _columns(zeros.T, rows, tuple(range(_WORD))).T

        packed = Packed(
            module,
            (n_out, n_in),
            block_groups(module, groups),
            lambda rows: nibbles(words[rows])[:, :n_in],
            lambda rows: _floats(checkpoint, names["weight_scale"], scales[rows]),
            zero,
        )
        return keep(packed, list(slabs(packed.shape)))


@dataclass(frozen=True, slots=True)
class Mxfp4:
    """compressed-tensors: codes [out, in / 2] in bytes, an E8M0 exponent for 32 inputs; ggml's block has both."""

    parts: tuple[str, ...] = ("weight_packed", "weight_scale")

    def keep(self, checkpoint: Checkpoint, names: dict[str, str], module: str) -> Kept:
        """See Scheme."""
        codes, exponents = (_map(checkpoint, names, module, part) for part in self.parts)
        _expect(module, _is(codes, 1) and _is(exponents, 1) and codes.shape[1] * 2 % BLOCK == 0)
        _expect(module, exponents.shape == (len(codes), codes.shape[1] * 2 // BLOCK))

        def rows_of(rows: slice) -> Bytes:
            blocks = unpaired(codes[rows]).reshape(rows.stop - rows.start, -1, BLOCK)
            return np.concatenate((exponents[rows][..., None], paired(blocks)), -1).reshape(len(blocks), -1)

        return Kept((len(codes), codes.shape[1] * 2), GGMLQuantizationType.MXFP4, rows_of, 0.0)


@dataclass(frozen=True, slots=True)
class Nvfp4:
    """Codes [out, in / 2] in bytes, an E4M3 scale for 16 inputs, one F32 for the whole, which ggml keeps beside."""

    parts: tuple[str, ...]
    inverted: bool  # compressed-tensors divides by the scale of the whole, ModelOpt multiplies

    def keep(self, checkpoint: Checkpoint, names: dict[str, str], module: str) -> Kept:
        """See Scheme."""
        codes, scales, whole = (_map(checkpoint, names, module, part) for part in self.parts[:3])
        n_in = codes.shape[1] * 2
        _expect(
            module,
            _is(codes, 1)
            and _is(scales, 1)
            and n_in % _NV_BLOCK == 0
            and scales.shape == (len(codes), n_in // _NV_GROUP)
            and whole.size == 1,
        )
        factor = float(_floats(checkpoint, names[self.parts[2]], whole).reshape(-1)[0])
        if not np.isfinite(factor) or factor <= 0:
            raise ConvertError(f"the scale of {module} is {factor}, not a number above 0; the checkpoint is damaged")

        def rows_of(rows: slice) -> Bytes:
            groups = unpaired(codes[rows]).reshape(rows.stop - rows.start, -1, 4, _NV_GROUP)
            heads = scales[rows].reshape(len(groups), -1, 4) & 0x7F  # ggml's scales have no sign
            return np.concatenate((heads, paired(groups).reshape(*heads.shape[:2], -1)), -1).reshape(len(groups), -1)

        if (scales & 0x80).any():
            raise ConvertError(f"{module} has a scale below 0, which ggml's NVFP4 cannot hold")
        scale = 1 / factor if self.inverted else factor
        return Kept((len(codes), n_in), GGMLQuantizationType.NVFP4, rows_of, 0.0, scale)


def scheme_of(checkpoint: Checkpoint) -> Scheme | None:
    """How the checkpoint's weights are packed; None for plain ones. Raises ConvertError for a way that is not kept."""
    config: dict[str, Any] = checkpoint.config.get("quantization_config") or {}
    if not config:
        return None
    try:
        return _scheme(config)
    except (KeyError, TypeError, AttributeError, StopIteration, ValueError) as error:
        raise ConvertError(
            f"{checkpoint.folder}/config.json: quantization_config cannot be read ({error!r})"
        ) from error


def _scheme(config: dict[str, Any]) -> Scheme:
    method, bits = config["quant_method"], config.get("bits", 4)
    if method in ("gptq", "awq") and bits != 4:  # noqa: PLR2004 - the bits of a code
        raise ConvertError(
            f"only 4-bit {method} weights are kept, these have {bits}; convert the unquantised checkpoint"
        )
    if method == "gptq":
        shift = 0 if config.get("checkpoint_format") == "gptq_v2" else 1
        return Gptq(shift, int(config["group_size"]))
    if method == "awq":
        if str(config.get("version", "gemm")).lower() != "gemm":
            raise ConvertError(f"AWQ weights of version {config['version']} are not kept; only gemm's are")
        return Awq(int(config.get("group_size", config.get("q_group_size", 128))))
    if method == "modelopt" and config.get("quant_algo") == "NVFP4":
        return Nvfp4(("weight", "weight_scale", "weight_scale_2", "input_scale"), inverted=False)
    if method == "compressed-tensors":
        return _compressed(config)
    raise ConvertError(f"weights quantised by {method} are not kept; convert the unquantised checkpoint")


def _compressed(config: dict[str, Any]) -> Scheme:
    groups = config["config_groups"]
    if len(groups) != 1:
        raise ConvertError("several config_groups are not kept yet; convert the unquantised checkpoint")
    weights = next(iter(groups.values()))["weights"]
    kind = next(iter(groups.values())).get("format") or config["format"]
    if kind == "pack-quantized" and (weights["num_bits"], weights["type"]) == (4, "int"):
        return PackQuantized()
    if kind == "mxfp4-pack-quantized":
        return Mxfp4()
    if kind == "nvfp4-pack-quantized":
        parts = ("weight_packed", "weight_scale", "weight_global_scale", "input_global_scale")
        return Nvfp4(parts, inverted=True)
    raise ConvertError(f"compressed-tensors of format {kind} are not kept; convert the unquantised checkpoint")


def _map(checkpoint: Checkpoint, names: dict[str, str], module: str, part: str) -> npt.NDArray[Any]:
    """A part of a module, of the type and dimensions that it must have."""
    if part not in names:
        raise ConvertError(f"{checkpoint.folder} lacks {module}.{part}; the checkpoint is not whole")
    stored = checkpoint.tensors[names[part]]
    types, dims = _PARTS[part]
    if stored.dtype not in types or len(stored.shape) not in dims or 0 in stored.shape:
        raise ConvertError(
            f"{module}.{part} is {stored.dtype} {list(stored.shape)}, which it cannot be; is it damaged?"
        )
    return checkpoint.map(names[part])


def _is(array: npt.NDArray[Any], width: int) -> bool:
    """Whether the numbers are integers, or bits, of so many bytes."""
    return bool(array.dtype.kind in "iu" and array.dtype.itemsize == width)


def _expect(module: str, fits: bool) -> None:  # noqa: FBT001 - a condition
    if not fits:
        raise ConvertError(f"codes, scales and zeros of {module} do not fit together; the checkpoint is damaged")


def _groups(
    checkpoint: Checkpoint, names: dict[str, str], module: str, n_in: int, size: int, part: str = "g_idx"
) -> npt.NDArray[np.int64]:
    """The group of every input."""
    if n_in == 0 or n_in % BLOCK:
        raise ConvertError(f"rows of {module} have {n_in} numbers, not a multiple of {BLOCK}")
    if part not in names:
        return np.arange(n_in) // (size if size > 0 else n_in)
    groups = np.asarray(_map(checkpoint, names, module, part)).astype(np.int64)
    _expect(module, groups.shape == (n_in,) and groups.min() >= 0)
    return groups


def _columns(words: npt.NDArray[Any], columns: slice, order: tuple[int, ...]) -> npt.NDArray[np.int64]:
    """Columns of what is packed eight to a word along the columns."""
    first, last = columns.start // _WORD, -(-columns.stop // _WORD)
    codes = nibbles(np.ascontiguousarray(words[:, first:last]), order)
    return codes[:, columns.start - first * _WORD : columns.stop - first * _WORD].astype(np.int64)


def _floats(checkpoint: Checkpoint, name: str, raw: npt.NDArray[Any]) -> Floats:
    if checkpoint.tensors[name].dtype == "BF16":
        return (raw.astype(np.uint32) << 16).view(np.float32)
    return raw.astype(np.float32)
