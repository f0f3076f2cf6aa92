"""Which models there are to choose from. Not for the screen's own thread."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dspark_local.models import registry
from dspark_local.models.locations import resolve

if TYPE_CHECKING:
    from dspark_local.models.registry import Row


@dataclass(frozen=True, slots=True)
class Item:
    """A model by the name that loads it; `here`: nothing has to be fetched; `what` it is, in a line."""

    name: str
    what: str
    here: bool


def items() -> list[Item]:
    """The registry's models that have a GGUF, those that are here first; then what else the hub's cache holds."""
    from dspark_local.models import cache  # noqa: PLC0415 - the hub's client takes half a second

    rows = registry.rows()
    known = [Item(name, row.description, _here(name)) for name, row in rows.items() if row.target]
    repos = {source.repo for row in rows.values() for source in _sources(row)}
    others = [
        Item(str(root / file.path), f"{repo}, in the hub's cache", here=True)
        for repo in cache.repos()
        if repo not in repos and (root := cache.snapshot(repo))
        for file in cache.files(repo)
        if file.path.endswith(".gguf")
    ]
    return sorted([*known, *others], key=lambda item: not item.here)


def _here(name: str) -> bool:
    from dspark_local.models import download  # noqa: PLC0415 - as above

    wanted = resolve(name)
    remotes = [(where, drafts) for where, drafts in ((wanted.target, False), (wanted.drafter, True)) if where]
    return all(
        isinstance(where, Path) or download.present(where.source, where.quant, checkpoints=drafts)
        for where, drafts in remotes
    )


def _sources(row: Row) -> list[registry.Source]:
    return [*row.target.values(), *row.drafters]
