"""Models that come in several files, as llama-gguf-split makes them: the first has the metadata, all have tensors."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from dspark_local.errors import ModelNotFoundError
from dspark_local.formats.faults import format_fault, one_line, quoted

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from dspark_local.formats.gguf import GGUF

COUNT, NUMBER = "split.count", "split.no"  # the number counts from 0, names from 1
_NAME = re.compile(r"(?P<stem>.*)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf")


def is_split(file: GGUF) -> bool:
    """Whether it is one file of several."""
    count = file.meta(COUNT)
    return isinstance(count, int) and count > 1


def other_paths(first: GGUF) -> Iterator[Path]:
    """Paths of the parts behind the first.

    Raises ModelFormatError for a part that is not the first or goes by another name, ModelNotFoundError for one that
    is missing.
    """
    count = first.meta(COUNT)
    assert isinstance(count, int)
    name = _NAME.fullmatch(first.path.name)
    if first.meta(NUMBER) or (name and int(name["number"]) != 1):
        raise format_fault(first.path, f"one of {count} parts of a model: give the first, …-00001-of-{count:05}.gguf")
    if name is None or int(name["count"]) != count:
        what = f"the first of {count} parts, but not named …-00001-of-{count:05}.gguf"
        raise format_fault(first.path, f"{what}: rename them all, or merge the parts with llama-gguf-split")
    for number in range(2, count + 1):
        path = first.path.with_name(f"{name['stem']}-{number:05}-of-{count:05}.gguf")
        if not path.is_file():
            raise ModelNotFoundError(
                f"{one_line(str(path))}: no such file, and it is part {number} of {count} of a model"
            )
        yield path


def check_part(first: GGUF, part: GGUF, number: int, seen: set[str]) -> None:
    """Raise ModelFormatError for a part of another model, or a tensor that was `seen` before."""
    if (part.meta(COUNT), part.meta(NUMBER)) != (first.meta(COUNT), number - 1):
        raise format_fault(part.path, f"not part {number} of the model that {quoted(first.path.name)} begins")
    twice = seen & part.header.tensors.keys()
    if twice:
        raise format_fault(part.path, f"tensor {quoted(min(twice))} is in another part too")
