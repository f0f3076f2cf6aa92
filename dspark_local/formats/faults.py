"""One line for a fault in a file, whatever bytes its names are made of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dspark_local.errors import ModelFormatError, PairError

if TYPE_CHECKING:
    from pathlib import Path

_LONGEST_NAME = 80


def format_fault(path: Path, what: str) -> ModelFormatError:
    """Error to raise for a file that is broken in itself."""
    return ModelFormatError(f"{one_line(str(path))}: {one_line(what)}")


def pair_fault(draft: Path, target: Path, what: str) -> PairError:
    """Error to raise for a drafter that is not of this target."""
    return PairError(f"{one_line(draft.name)} is no drafter for {one_line(target.name)}: {one_line(what)}")


def one_line(text: str) -> str:
    """Escape everything that does not print: line breaks, control codes, halves of characters."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def quoted(name: str) -> str:
    """Show a name out of a file, shortened if need be."""
    return f"'{name if len(name) <= _LONGEST_NAME else name[:_LONGEST_NAME] + '…'}'"
