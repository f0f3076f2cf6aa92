"""models.toml: names, and what they stand for; the user's own file is merged over the installed one."""

from __future__ import annotations

import difflib
import json
import tomllib
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import platformdirs
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from dspark_local.errors import ModelError, ModelNotFoundError, UsageError

FILE = "models.toml"
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
RepoId = Annotated[str, Field(pattern=r"^[\w.-]+/[\w.-]+$")]
Name = Annotated[str, Field(pattern=r"^[^\s/:\\]+$")]  # what cannot be read as a path, or as NAME:QUANT


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Source(_Part):
    """Where a model is: a file of this package or of this machine, or a repository, with what is known of the file."""

    package: str | None = None
    path: Path | None = None
    repo: RepoId | None = None
    revision: str | None = None
    file: str | None = None
    size: Annotated[int, Field(gt=0)] | None = None
    sha256: Digest | None = None

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if [self.package, self.path, self.repo].count(None) != 2:  # noqa: PLR2004 - one of three is given
            raise ValueError("give one of package, path and repo")
        if not self.repo and (self.revision or self.file):
            raise ValueError("revision and file belong to a repo")
        if (self.size or self.sha256) and not self.file:
            raise ValueError("size and sha256 are those of a file; name it")
        return self


class DrafterSource(Source):
    """A drafter, and of which kind it is."""

    kind: Literal["dspark", "dflash", "model"]


class Preset(_Part):
    """Sampling that a model's makers recommend; None: they say nothing."""

    temperature: Annotated[float, Field(ge=0)] | None = None
    top_k: Annotated[int, Field(ge=0)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None


SILENT = Preset()


class Row(_Part):
    """One name of the registry; `target` by quant, the default first; models.toml says what each field means."""

    description: str
    licence: str
    checked: str
    context: Annotated[int, Field(gt=0)] | None = None
    sampling: Preset = SILENT
    target: dict[Name, Source] = {}
    drafters: tuple[DrafterSource, ...] = ()

    @property
    def kinds(self) -> tuple[str, ...]:
        """Kinds of what may draft; lookup, where nothing is known."""
        return tuple(dict.fromkeys(d.kind for d in self.drafters)) or ("lookup",)


_ROWS = TypeAdapter(dict[Name, Row])


def user_file() -> Path:
    """The user's own registry, which need not exist."""
    return Path(platformdirs.user_config_dir("dspark-local")) / FILE


def rows() -> dict[str, Row]:
    """All rows by name. Raises UsageError if the user's file cannot be read, one line that says where it errs."""
    path = user_file()
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return _installed()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from None
    return _merged(path, text)


@cache
def _installed() -> dict[str, Row]:
    return _ROWS.validate_python(_tables())


@cache
def _merged(path: Path, text: str) -> dict[str, Row]:
    try:
        return _ROWS.validate_python(_over(_tables(), tomllib.loads(text)))
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path} is no TOML: {error}") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"] if part != "[key]")
        what = first["msg"].removeprefix("Value error, ")
        raise UsageError(f"{path}: {where}: {what}") from None


def _tables() -> dict[str, Any]:
    text = resources.files("dspark_local.registry").joinpath(FILE).read_text(encoding="utf-8")
    return tomllib.loads(text)


def _over(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Tables merged key by key; everything else is replaced. What the user names comes first."""
    merged = {
        key: _over(below[key], value) if isinstance(value, dict) and isinstance(below.get(key), dict) else value
        for key, value in above.items()
    }
    return merged | {key: value for key, value in below.items() if key not in above}


def add(name: str, target: Path, drafter: Path, *, description: str) -> None:
    """Register a pair of files of this machine in the user's own file. Raises UsageError if that cannot be."""
    if registered(name, target, drafter):
        return
    path, beside = user_file(), user_file().with_suffix(".part")
    lines = [
        f"[{_quoted(name)}]",
        f"description = {_quoted(description)}",
        'licence = "the target\'s"',
        'checked = "trained on this machine"',
        f"target = {{ own = {{ path = {_quoted(str(target.resolve()))} }} }}",
        f'drafters = [{{ kind = "dspark", path = {_quoted(str(drafter.resolve()))} }}]',
    ]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        before = path.read_text(encoding="utf-8").rstrip() + "\n\n" if path.is_file() else ""
        beside.write_text(before + "\n".join(lines) + "\n", encoding="utf-8")
        beside.replace(path)
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be written: {error}") from None


def _quoted(text: str) -> str:
    """A string of TOML: JSON's, but for escaped halves of characters, which TOML forbids."""
    return json.dumps(text, ensure_ascii=False)


def registered(name: str, target: Path, drafter: Path) -> bool:
    """Whether the name stands for this pair already. Raises UsageError for one that is taken, or is no name."""
    try:
        TypeAdapter(Name).validate_python(name)
    except ValidationError:
        raise UsageError(f"{name!r} is no name for a model; use letters, digits and dashes") from None
    known = rows().get(name)
    if known is None:
        return False
    if [s.path for s in (*known.target.values(), *known.drafters)] == [target.resolve(), drafter.resolve()]:
        return True
    raise UsageError(f"the name {name} is taken; give another --name")


def row(name: str) -> Row:
    """The row of a name. Raises ModelNotFoundError, with the nearest names."""
    known = rows()
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name.lower(), known, n=3, cutoff=0.6)
    ways = "a path to a GGUF file or a hub id user/repo works too"
    hint = f"did you mean {' or '.join(near)}?" if near else f"known names: {', '.join(known)}; {ways}"
    raise ModelNotFoundError(f"no model named {name!r} and no such file; {hint}")


def quant(row: Row, name: str, wanted: str | None) -> Source:
    """A row's target in the wanted quant, or in its default one. Raises ModelError."""
    if not row.target:
        raise ModelError(f"no GGUF of {name} is known; give one by its path, or as user/repo:QUANT of the hub")
    if wanted is None:
        return next(iter(row.target.values()))
    found = {key.lower(): source for key, source in row.target.items()}.get(wanted.lower())
    if found is None:
        raise ModelNotFoundError(f"no quant {wanted} of {name} is known; known ones: {', '.join(row.target)}")
    return found


def installed_file(name: str) -> Path:
    """Path of a file of this package. Raises ModelNotFoundError when it is not there."""
    path = Path(str(resources.files("dspark_local.demo").joinpath(name)))
    if not path.is_file():
        raise ModelNotFoundError(f"{name} is missing from this installation; reinstall dspark-local")
    return path
