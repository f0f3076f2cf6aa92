"""The public interface as text, one line a fact: what `tests/api.txt` pins.

.venv/bin/python -m tests.api > tests/api.txt
"""

from __future__ import annotations

import enum
import inspect
import re
import sys
from dataclasses import is_dataclass
from typing import TYPE_CHECKING, Any, get_args

import dspark_local
import dspark_local.testing

if TYPE_CHECKING:
    from collections.abc import Iterator

MADE_BY_US = (dspark_local.Runtime, dspark_local.Generation)  # users do not call their constructors


def lines() -> Iterator[str]:
    """Every name of `dspark_local.__all__` and of `dspark_local.testing`, and what can be done with it."""
    for name in sorted(dspark_local.__all__):
        yield from _of(name, getattr(dspark_local, name))
    with dspark_local.testing.scripted_runtime() as runtime:
        yield from (f"Runtime.{name}" for name in sorted(vars(runtime)) if not name.startswith("_"))
    yield from _of("testing.scripted_runtime", dspark_local.testing.scripted_runtime)


def _of(name: str, thing: Any) -> Iterator[str]:
    if not inspect.isclass(thing):
        yield f"{name}{_signature(thing)}" if callable(thing) else f"{name} = {_union(thing)}"
        return
    yield f"class {name}({', '.join(base.__name__ for base in thing.__bases__)})"
    if issubclass(thing, enum.Enum):
        yield from (f"{name}.{member.name} = {member.value!r}" for member in thing)
        return
    if issubclass(thing, dspark_local.DSparkError):
        yield f"{name}.code = {thing.code!r}"
        return
    if is_dataclass(thing):
        yield f"{name}{_signature(thing)}"
    else:
        assert thing in MADE_BY_US
    for member, value in sorted(vars(thing).items()):
        yield from _member(f"{name}.{member}", member, value)


def _member(path: str, member: str, value: Any) -> Iterator[str]:
    protocol = member in ("__iter__", "__aiter__", "__enter__", "__aenter__")
    if member.startswith("_") and not protocol:
        return
    if isinstance(value, property):
        yield f"{path}: {inspect.signature(value.fget).return_annotation}" + (" (settable)" if value.fset else "")
    elif isinstance(value, classmethod):
        yield f"{path}{inspect.signature(value.__func__)}"
    elif inspect.isfunction(value):
        yield f"{'async ' * inspect.iscoroutinefunction(value)}{path}{inspect.signature(value)}"


def _signature(thing: Any) -> str:
    """Without what is another in every process: default factories, and where a function lies in memory."""
    return re.sub(r"<factory>|<function .*? at 0x[0-9a-f]+>", "…", str(inspect.signature(thing)))


def _union(thing: Any) -> str:
    return " | ".join(part.__name__ for part in get_args(thing))


if __name__ == "__main__":
    sys.stdout.writelines(f"{line}\n" for line in lines())
