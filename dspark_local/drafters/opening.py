"""Drafters over llama.cpp, each with what times it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from dspark_local.backend.heads import MarkovHead
from dspark_local.backend.llama import LlamaDraft, LlamaTarget
from dspark_local.backend.timing import ChainTiming, Timing
from dspark_local.drafters import model as chain
from dspark_local.drafters.dflash import DFlash
from dspark_local.drafters.dspark import DSpark
from dspark_local.drafters.lookup import Lookup
from dspark_local.drafters.several import Several

if TYPE_CHECKING:
    from collections.abc import Callable

    from dspark_local.backend.base import Shape
    from dspark_local.backend.model import Model
    from dspark_local.drafters.base import Drafter
    from dspark_local.formats.inspection import Inspection
    from dspark_local.formats.translation import Translation
    from dspark_local.scheduling.measure import Timed


@dataclass(frozen=True, slots=True)
class Opened:
    """A drafter, which frees its model when it is closed; `timing` is asked only if something is to be timed."""

    drafter: Drafter
    timing: Callable[[], Timed]


def block(
    weights: Model, files: Inspection, target: LlamaTarget, shape: Shape, *, candidates: bool = False
) -> Opened:
    """A DSpark or DFlash drafter beside its target; `candidates` as in LlamaDraft, for DSpark only."""
    assert files.draft
    assert files.spec
    draft = LlamaDraft(weights, target, files.spec, shape, candidates=candidates)
    drafter = DSpark(draft, MarkovHead(files.draft)) if files.spec.has_markov else DFlash(draft)
    return Opened(drafter, lambda: Timing(target, draft, width=shape.width, padded=not shape.unified))


def model(weights: Model, vocabulary: Translation, target: LlamaTarget, shape: Shape) -> Opened:
    """A small model in a context of its own, with room for its drafts behind the target's last position."""
    own = replace(shape, n_ctx=target.n_ctx + chain.BLOCK, width=chain.MOST_ROWS, unified=True, kv="f16")
    small = LlamaTarget(weights, own)
    timing = lambda: ChainTiming(target, small, width=shape.width, padded=not shape.unified)  # noqa: E731 - as above
    return Opened(chain.Model(small, vocabulary), timing)


def lookup(target: LlamaTarget, shape: Shape) -> Opened:
    """The text itself."""
    return Opened(Lookup(), lambda: ChainTiming(target, None, width=shape.width, padded=not shape.unified))


def beside_lookup(opened: Opened) -> Opened:
    """The same drafter, and what the text itself offers."""
    return replace(opened, drafter=Several(opened.drafter, Lookup()))
