"""Files that a message names by `@path`: their text goes along."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from dspark_local.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST = 1 << 20  # bytes of a file: more than most contexts hold
_NAMED = re.compile(r'(?<!\S)@(?:"([^"\n]+)"|(\S+))')
_BEGUN = re.compile(r'(?<!\S)@("?)([^"\s]*)$')


def attached(text: str) -> str:
    """The text, and behind it each file that it names; an @word that names none is a word.

    Raises UsageError for a file that is no text, is too long or cannot be read.
    """
    return "\n\n".join([text, *(f"{path}:\n{_fenced(path)}" for path in dict.fromkeys(_named(text)))])


def completion(before: str) -> str:
    """What would complete the path that `before` ends in, as far as it is certain."""
    begun = _BEGUN.search(before)
    if begun is None or not begun[2]:
        return ""
    folder, _, start = begun[2].rpartition("/")
    try:
        where = Path(f"{folder}/" if folder or begun[2].startswith("/") else ".").expanduser()
        names = [entry.name + "/" * entry.is_dir() for entry in os.scandir(where)]
    except (OSError, RuntimeError):  # no such folder, or no such user's home
        return ""
    fits = [name for name in names if name.startswith(start) and (start or not name.startswith("."))]
    return os.path.commonprefix(fits)[len(start) :]  # noqa: RUF071 - character by character is what is meant


def _named(text: str) -> Iterator[Path]:
    for quoted, word in _NAMED.findall(text):
        for name in (quoted,) if quoted else (word, word.rstrip(".,;:!?)")):
            try:
                path = Path(name).expanduser()
                if path.is_file():
                    yield path
                    break
            except (OSError, RuntimeError):  # a name too long, or no such user's home
                continue


def _fenced(path: Path) -> str:
    try:
        if path.stat().st_size > MOST:
            raise UsageError(f"{path} is longer than {MOST >> 20} MiB; attach a part of it")
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise UsageError(f"{path} is no text; attach text files only") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    ticks = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, ticks + 1)
    return f"{fence}{path.suffix.removeprefix('.')}\n{text.rstrip()}\n{fence}"
