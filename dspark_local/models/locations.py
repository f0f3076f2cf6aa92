"""Which files a user means: a name, a path, and the drafter beside a target."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dspark_local.errors import ModelNotFoundError
from dspark_local.models.registry import locate, row, rows


@dataclass(frozen=True, slots=True)
class Pair:
    """Files of a target and, unless it is to run alone, its drafter."""

    name: str
    target: Path
    drafter: Path | None


def find(model: str | Path, drafter: str | Path = "auto") -> Pair:
    """Files for a registry name or GGUF path; `drafter` is auto, none or a path.

    Raises ModelNotFoundError.
    """
    path = Path(model)
    if str(model) not in rows() and (path.exists() or path.suffix == ".gguf" or len(path.parts) > 1):
        name, target, own = path.stem, existing(path), beside(path)
    else:
        known = row(str(model))
        name, target = str(model), locate(known.target)
        own = locate(known.drafter) if known.drafter else None
    if str(drafter) == "none":
        return Pair(name, target, None)
    return Pair(name, target, own if str(drafter) == "auto" else existing(Path(drafter)))


def existing(path: Path) -> Path:
    """The path, if there is a file. Raises ModelNotFoundError."""
    if path.is_dir():
        raise ModelNotFoundError(f"{path} is a folder; give a GGUF file (`dspark-local convert` makes one)")
    if not path.is_file():
        raise ModelNotFoundError(f"no such file: {path}")
    return path


def beside(target: Path) -> Path | None:
    """Drafter named by convention, `dspark-<Target>-<Type>.gguf`, in the target's folder; the longest match."""
    if not target.is_file():
        return None
    stem = target.stem.lower()
    found = [p for p in target.parent.glob("dspark-*.gguf") if stem.startswith(_target_of(p))]
    return max(found, key=lambda p: (len(_target_of(p)), p.name), default=None)


def _target_of(drafter: Path) -> str:
    return drafter.stem.lower().removeprefix("dspark-").rpartition("-")[0]
