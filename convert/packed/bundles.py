"""Tensors under the names that a plain checkpoint would have, whether packed or not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dspark_local.convert.checkpoint import slabs
from dspark_local.convert.packed.parts import Module
from dspark_local.convert.packed.schemes import scheme_of
from dspark_local.convert.plain import stored

if TYPE_CHECKING:
    from collections.abc import Container

    from dspark_local.convert.checkpoint import Checkpoint
    from dspark_local.convert.packed.blocks import Kept
    from dspark_local.convert.plain import Plain


def unbundled(checkpoint: Checkpoint, have: dict[str, str], biases: Container[str]) -> dict[str, Kept | Plain]:
    """What lies under `have`, names of the tables → the checkpoint's; `biases` are those that the family has.

    Raises ConvertError for what cannot be kept.
    """
    scheme = scheme_of(checkpoint)
    names = dict(have)
    packed: dict[str, Kept | Plain] = {}
    if scheme:
        key = "." + scheme.parts[1]
        for module in [name.removesuffix(key) for name in have if name.endswith(key)]:
            parts = {part: names.pop(f"{module}.{part}") for part in scheme.parts if f"{module}.{part}" in names}
            packed[f"{module}.weight"] = scheme.keep(Module(checkpoint, module, parts))
            bias = f"{module}.bias"
            if bias in names and bias not in biases and _is_zero(checkpoint, names[bias]):
                del names[bias]  # some exporters write one where the family has none
    return {name: stored(checkpoint, theirs) for name, theirs in names.items()} | packed


def _is_zero(checkpoint: Checkpoint, name: str) -> bool:
    shape = checkpoint.tensors[name].shape
    return len(shape) == 1 and not any(np.any(checkpoint.read(name, rows)) for rows in slabs(shape))
