"""Rotary positions: what config.json says of them, in its two dialects, as GGUF keys and frequency factors."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from gguf import GGUFWriter

    from dspark_local.convert.checkpoint import Floats
    from dspark_local.convert.config import Config

_MORE_YARN = {"mscale", "mscale_all_dim", "attention_factor", "beta_fast", "beta_slow", "truncate"}
FULL, SLIDING = "full_attention", "sliding_attention"


@dataclass(frozen=True, slots=True)
class Rope:
    """Base frequency and scaling of one kind of layer; `kind` is transformers' rope_type."""

    config: Config
    theta: float
    kind: str
    parameters: dict[str, Any]

    def number(self, key: str) -> float:
        """A parameter of the scaling. Raises ConvertError."""
        return self.config.positive(f"rope {key}", self.parameters.get(key))

    def factors(self) -> Floats | None:
        """What each pair's frequency is divided by, [head_dim / 2]; None if nothing is.

        Llama 3's rule, from transformers' modeling_rope_utils._compute_llama3_parameters.
        """
        if self.kind != "llama3":
            return None
        half = self.config.head_dim // 2
        factor, low, high = (self.number(key) for key in ("factor", "low_freq_factor", "high_freq_factor"))
        if low >= high:
            raise self.config.fault(f"rope low_freq_factor {low} must be below high_freq_factor {high}")
        wavelength = 2 * math.pi * self.theta ** (np.arange(half) / half)
        turns = self.number("original_max_position_embeddings") / wavelength
        smooth = np.clip((turns - low) / (high - low), 0, 1)
        return (1 / ((1 - smooth) / factor + smooth)).astype(np.float32)

    def write(self, writer: GGUFWriter) -> None:
        """Add base and scaling to a file. Factors are a tensor, not keys."""
        writer.add_rope_freq_base(self.theta)
        if self.kind == "linear":
            writer.add_string(f"{writer.arch}.rope.scaling.type", "linear")
            writer.add_rope_scaling_factor(self.number("factor"))
        elif self.kind == "yarn":
            writer.add_string(f"{writer.arch}.rope.scaling.type", "yarn")
            writer.add_rope_scaling_factor(self.number("factor"))
            default = self.config.count("max_position_embeddings")
            writer.add_rope_scaling_orig_ctx_len(
                int(self.parameters.get("original_max_position_embeddings") or default)
            )


def read_rope(config: Config, *, layers: str = FULL, kinds: tuple[str, ...] = ("default", "linear", "yarn")) -> Rope:
    """Positions of one kind of layer. Raises ConvertError for a scaling that is not among `kinds`."""
    new, old = config.part("rope_parameters"), config.part("rope_scaling")
    if layers in new or FULL in new:  # one entry a kind of layer
        given = new.get(layers) or {}
        if not isinstance(given, dict):
            raise config.fault(f"rope_parameters of {layers} must be an object")
        parameters = dict(given)
    else:
        parameters = dict(new or (old if layers == FULL else {}))  # the old dialect scales the full layers only
    kind = str(parameters.get("rope_type", parameters.get("type", "default")))
    if kind not in kinds:
        raise config.fault(f"rope scaling of type {kind!r} is not converted yet")
    if kind == "yarn" and (odd := sorted(parameters.keys() & _MORE_YARN)):
        raise config.fault(f"yarn with {odd[0]} is not converted yet")
    if kind != "proportional" and parameters.get("partial_rotary_factor", 1.0) != 1:
        raise config.fault("a partial_rotary_factor is not converted yet")
    theta = parameters.get("rope_theta")
    if theta is None and layers == SLIDING:
        theta = config.get("rope_local_base_freq")
    key = "rope_theta" if layers == FULL else "rope_local_base_freq"
    return Rope(config, config.positive(key, config.get("rope_theta") if theta is None else theta), kind, parameters)
