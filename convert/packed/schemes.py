"""How a checkpoint says that its weights are packed, and who reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from dspark_local.convert.packed.floats import Fp8OrMxfp4, Mxfp4, Nvfp4
from dspark_local.convert.packed.integers import Awq, Gptq, PackQuantized
from dspark_local.errors import ConvertError

if TYPE_CHECKING:
    from dspark_local.convert.checkpoint import Checkpoint
    from dspark_local.convert.packed.blocks import Kept
    from dspark_local.convert.packed.parts import Module
    from dspark_local.convert.plain import Plain

_DEEPSEEK_V4 = "DeepseekV4"


class Scheme(Protocol):
    """A way to pack: the ends of its tensors' names, behind the module's, and how one module is kept."""

    @property
    def parts(self) -> tuple[str, ...]:
        """The ends; the second is in every packed module, and in no other."""

    def keep(self, module: Module) -> Kept | Plain:
        """Keep the codes of one module, or give its numbers where ggml has no type for them. Raises ConvertError."""


def scheme_of(checkpoint: Checkpoint) -> Scheme | None:
    """How the checkpoint's weights are packed; None for plain ones. Raises ConvertError for a way that is not kept."""
    config: dict[str, Any] = checkpoint.config.get("quantization_config") or {}
    if not config:
        return None
    try:
        return _scheme(config, str(checkpoint.config.get("architectures")))
    except (KeyError, TypeError, AttributeError, StopIteration, ValueError) as error:
        raise ConvertError(
            f"{checkpoint.folder}/config.json: quantization_config cannot be read ({error!r})"
        ) from error


def _scheme(config: dict[str, Any], architectures: str) -> Scheme:
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
    if method == "fp8" and _DEEPSEEK_V4 in architectures:
        high, wide = config["weight_block_size"]
        return Fp8OrMxfp4((int(high), int(wide)))
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
