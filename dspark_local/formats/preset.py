"""How a model's makers want it sampled, as its file says (general.sampling.*)."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from dspark_local.errors import UsageError
from dspark_local.types import SamplingParams

if TYPE_CHECKING:
    from dspark_local.formats.gguf import GGUF

# llama.cpp's key (llama-arch.cpp) → our name. Other samplers that it names there (xtc, mirostat) we do not have.
_KEYS = {
    "temp": "temperature",
    "top_k": "top_k",
    "top_p": "top_p",
    "min_p": "min_p",
    "penalty_last_n": "repeat_last_n",
    "penalty_repeat": "repeat_penalty",
}
_WHOLE = ("top_k", "repeat_last_n")
_logger = logging.getLogger(__name__)


def read_preset(model: GGUF) -> SamplingParams:
    """What the metadata says, the rest off; a value that cannot be is left out with a warning."""
    found: dict[str, Any] = {}
    for key, name in _KEYS.items():
        value: Any = model.meta(f"general.sampling.{key}")
        if value is None:
            continue
        try:
            number: Any = round(value) if name in _WHOLE else round(value, 6)  # 0.95 is stored in 32 bits
            SamplingParams(**{name: number})
        except (UsageError, TypeError, ValueError, OverflowError) as error:
            _logger.warning("%s: general.sampling.%s is ignored: %s", model.path.name, key, error)
            continue
        found[name] = number
    return SamplingParams(**found)
