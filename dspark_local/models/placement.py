"""Which layers go onto a GPU: the drafter's first, then as many of the target's last ones as its memory holds."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dspark_local.formats.gguf import GGUF
    from dspark_local.formats.inspection import Inspection

SHARE = 0.95  # of a device's free memory that is planned with: its driver takes a little, and the desktop too
_LAYER = re.compile(r"blk\.(\d+)\.")


@dataclass(frozen=True, slots=True)
class Device:
    """A GPU by its name, and its free bytes."""

    name: str
    free: int


@dataclass(frozen=True, slots=True)
class Layers:
    """Layers on the GPU, counted as llama.cpp does: its `n_gpu_layers`, of which the last is the head."""

    target: int
    draft: int


@dataclass(frozen=True, slots=True)
class Moved:
    """Bytes that leave host memory; `whole`: every layer of both models does."""

    weights: int
    cache: int
    whole: bool


def layers_that_fit(
    files: Inspection, cache: int, devices: Sequence[Device], *, most: int = -1
) -> tuple[Layers, Moved]:
    """Layers for the devices together, at most `most` if that is not negative; `cache` is spread over all layers."""
    room = int(sum(d.free for d in devices) * SHARE)
    models = [layer_bytes(f) for f in (files.draft, files.target) if f]
    per_layer = cache // max(1, sum(len(sizes) - 1 for sizes in models))
    taken: list[int] = []
    weights = moved_cache = 0
    for sizes in models:
        count = 0
        for i, nbytes in enumerate(reversed(sizes)):
            cost = nbytes + (per_layer if i else 0)  # the head has no keys and values
            if (0 <= most <= count) or weights + moved_cache + cost > room:
                break
            count, weights, moved_cache = count + 1, weights + nbytes, moved_cache + (per_layer if i else 0)
        taken.append(count)
        if count < len(sizes) and most < 0:
            room = 0  # a target on the GPU gains nothing from a drafter that is not
    whole = all(n == len(sizes) for n, sizes in zip(taken, models, strict=True))
    draft, target = taken if files.draft else [0, *taken]
    return Layers(target, draft), Moved(weights, moved_cache, whole)


def layer_bytes(file: GGUF) -> list[int]:
    """Bytes of each layer, and last of what belongs to the head; the embedding stays in host memory."""
    layers: dict[int, int] = {}
    head = 0
    for name, info in file.tensors.items():
        if found := _LAYER.match(name):
            layers[int(found[1])] = layers.get(int(found[1]), 0) + info.nbytes
        elif name != "token_embd.weight" or "output.weight" not in file.tensors:
            head += info.nbytes
    return [*(layers[i] for i in sorted(layers)), head]
