"""models.toml: names, and what they stand for."""

from __future__ import annotations

import difflib
import tomllib
from functools import cache
from importlib import resources
from pathlib import Path

from pydantic import BaseModel, ConfigDict, TypeAdapter

from dspark_local.errors import ModelNotFoundError

PACKAGE = "package:"


class Row(BaseModel):
    """One name of the registry."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    description: str
    target: str
    drafter: str | None = None
    licence: str
    checked: str


@cache
def rows() -> dict[str, Row]:
    """All rows by name."""
    text = resources.files("dspark_local.registry").joinpath("models.toml").read_text(encoding="utf-8")
    return TypeAdapter(dict[str, Row]).validate_python(tomllib.loads(text))


def row(name: str) -> Row:
    """The row of a name. Raises ModelNotFoundError, with the nearest name."""
    known = rows()
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"known names: {', '.join(known)}; a path to a GGUF file works too"
    raise ModelNotFoundError(f"no model named {name!r} and no such file; {hint}")


def locate(entry: str) -> Path:
    """Path of a row's file. Raises ModelNotFoundError when it is not there."""
    name = entry.removeprefix(PACKAGE)
    path = Path(str(resources.files("dspark_local.demo").joinpath(name)))
    if not path.is_file():
        raise ModelNotFoundError(f"{name} is missing from this installation; reinstall dspark-local")
    return path
