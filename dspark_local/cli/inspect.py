"""`dspark-local inspect`: what a GGUF file or a checkpoint folder is, as a table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from dspark_local.formats.facts import facts, fits
from dspark_local.formats.gguf import GGUF

if TYPE_CHECKING:
    from collections.abc import Iterable

_WIDTH = 18


@click.command("inspect")
@click.argument("path", metavar="FILE", type=click.Path(path_type=Path))
@click.option(
    "--with",
    "others",
    type=click.Path(path_type=Path),
    multiple=True,
    help="A GGUF to hold it against, as its target or drafter; by default all in its folder.",
)
def command(path: Path, others: tuple[Path, ...]) -> int:
    """Say what FILE is: a GGUF file, or a checkpoint folder; and which targets or drafters it fits, and why not."""
    if path.is_dir():
        from dspark_local.convert.facts import checkpoint_facts  # noqa: PLC0415 - it loads gguf

        _table(checkpoint_facts(path))
        return 0
    gguf = GGUF.open(path)
    _table(facts(gguf))
    beside = others or sorted(p for p in path.parent.glob("*.gguf") if p.resolve() != path.resolve())
    if found := fits(gguf, list(beside)):
        click.echo()
        _table(found)
    return 0


def _table(rows: Iterable[tuple[str, str]]) -> None:
    for label, value in rows:
        click.echo(f"{label:<{_WIDTH}} {value}")
