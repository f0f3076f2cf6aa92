"""config.json: every read is checked, and says which key of which file is wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dspark_local.errors import ConvertError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_LEAST, _MOST = 1.2e-38, 3.4e38  # what F32, in which GGUF keeps real numbers, tells apart from nothing and from all
_LONGEST = 80
_MOST_LAYERS = 512  # LLAMA_MAX_LAYERS


class Config:
    """What a checkpoint says of its text model.

    The parts that speak of it (`text_config` of models that also see, `transformer_layer_config` of speculators) lie
    over the rest, and `defaults`, which a family's published files leave out, under it.
    """

    _PARTS = ("text_config", "transformer_layer_config")

    def __init__(self, path: Path, values: Mapping[str, Any], defaults: Mapping[str, Any] | None = None) -> None:
        self.path = path
        parts = [part for name in self._PARTS if isinstance(part := values.get(name), dict)]
        self.values: dict[str, Any] = {**(defaults or {}), **values}
        for part in parts:
            self.values |= part

    def get(self, key: str, default: Any = None) -> Any:  # noqa: ANN401 - whatever a config holds
        """A value as it is; `default` where it is missing or null."""
        value = self.values.get(key)
        return default if value is None else value

    def count(self, key: str, default: int | None = None) -> int:
        """A whole number above 0. Raises ConvertError."""
        value = self.get(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value < 2**31:
            raise self.fault(f"{key} must be a positive number, not {shown(value)}")
        return value

    def real(self, key: str, default: float | None = None) -> float:
        """A finite number above 0. Raises ConvertError."""
        return self.positive(key, self.get(key, default))

    def positive(self, key: str, value: Any) -> float:  # noqa: ANN401 - as above
        """`value`, found under `key`, as a finite number above 0. Raises ConvertError."""
        if not isinstance(value, int | float) or isinstance(value, bool) or not _LEAST < value < _MOST:
            raise self.fault(f"{key} must be a positive number, not {shown(value)}")
        return float(value)

    def flag(self, key: str, *, default: bool = False) -> bool:
        """True or false. Raises ConvertError for anything else."""
        value = self.get(key, default)
        if not isinstance(value, bool):
            raise self.fault(f"{key} must be true or false, not {shown(value)}")
        return value

    def part(self, key: str) -> dict[str, Any]:
        """An object; empty where it is missing. Raises ConvertError for anything else."""
        value = self.get(key, {})
        if not isinstance(value, dict):
            raise self.fault(f"{key} must be an object, not {shown(value)}")
        return value

    @property
    def layers(self) -> int:
        """How many there are. Raises ConvertError for more than llama.cpp takes."""
        layers = self.count("num_hidden_layers")
        if layers > _MOST_LAYERS:
            raise self.fault(f"num_hidden_layers is {layers}, and llama.cpp takes {_MOST_LAYERS}")
        return layers

    @property
    def head_dim(self) -> int:
        """Width of an attention head. Raises ConvertError for one that cannot be rotated in pairs."""
        if self.get("head_dim"):
            return self.even("head_dim", self.count("head_dim"))
        return self.even(
            "hidden_size / num_attention_heads", self.count("hidden_size") // self.count("num_attention_heads")
        )

    def even(self, key: str, width: int) -> int:
        """`width`, if heads of it can be rotated in pairs. Raises ConvertError."""
        if width < 2 or width % 2:  # noqa: PLR2004 - a pair
            raise self.fault(f"{key} is {width}; heads are rotated in pairs")
        return width

    @property
    def layer_types(self) -> list[str]:
        """Kind of attention of every layer; empty where the config does not say. Raises ConvertError."""
        types = self.get("layer_types", [])
        layers = self.layers
        if not isinstance(types, list) or (types and len(types) != layers):
            raise self.fault(f"layer_types must name the kind of each of the {layers} layers")
        return [str(kind) for kind in types]

    def fault(self, what: str) -> ConvertError:
        """The error to raise for something wrong in this file."""
        return ConvertError(f"{self.path}: {what}")


def shown(value: object) -> str:
    """A value for a message: short, whatever it is."""
    text = ascii(value) if not isinstance(value, int) or abs(value) < 2**64 else "a number beyond 64 bits"
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "…"
