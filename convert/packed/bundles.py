"""Modules of a checkpoint whose weights are packed, found among its tensors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dspark_local.convert.checkpoint import slabs
from dspark_local.convert.packed.schemes import scheme_of

if TYPE_CHECKING:
    from collections.abc import Container

    from dspark_local.convert.checkpoint import Checkpoint
    from dspark_local.convert.packed.blocks import Kept


@dataclass(frozen=True, slots=True)
class Bundles:
    """Names of plain tensors, and what is kept under names that a plain checkpoint would have."""

    plain: dict[str, str]
    kept: dict[str, Kept]


def find_bundles(checkpoint: Checkpoint, have: dict[str, str], biases: Container[str]) -> Bundles:
    """Split `have`, names of the tables → the checkpoint's; `biases` are those that the family has.

    Raises ConvertError for what cannot be kept.
    """
    scheme = scheme_of(checkpoint)
    if scheme is None:
        return Bundles(have, {})
    key = "." + scheme.parts[1]
    modules = [name.removesuffix(key) for name in have if name.endswith(key)]
    plain, kept = dict(have), {}
    for module in modules:
        names = {part: plain.pop(f"{module}.{part}") for part in scheme.parts if f"{module}.{part}" in plain}
        kept[f"{module}.weight"] = scheme.keep(checkpoint, names, module)
        bias = f"{module}.bias"
        if bias in plain and bias not in biases and _is_zero(checkpoint, plain[bias]):
            del plain[bias]  # some exporters write one where the family has none
    return Bundles(plain, kept)


def _is_zero(checkpoint: Checkpoint, name: str) -> bool:
    shape = checkpoint.tensors[name].shape
    return len(shape) == 1 and not any(np.any(checkpoint.read(name, rows)) for rows in slabs(shape))
