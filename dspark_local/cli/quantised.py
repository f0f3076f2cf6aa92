"""A target in a type that llama.cpp's quantiser makes: converted exactly, quantised, and only then named."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from dspark_local.errors import ConvertError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def convert_quantised(
    src: Path,
    path: Path,
    recipe: str,
    *,
    imatrix: Path | None,
    threads: int,
    say: Callable[[str], None],
    progress: Callable[[str, float], None],
) -> None:
    """Write the checkpoint in `src` to `path`; `say` hears how large it will be before the work begins.

    Raises ConvertError, and then leaves no file.
    """
    from dspark_local.backend import quantise  # noqa: PLC0415 - it loads llama.cpp, the next ones gguf
    from dspark_local.convert import convert_target, exact_type, outline_target  # noqa: PLC0415
    from dspark_local.convert.writer import forget_parts, need_room  # noqa: PLC0415

    if recipe not in quantise.RECIPES:
        raise ConvertError(f"no type named {recipe}; one of F32, F16, BF16, {', '.join(quantise.RECIPES)}")
    importance = quantise.read_importance(imatrix) if imatrix else None
    kind = exact_type(src)
    between = path.with_name(f".{path.name}.{os.getpid()}.{kind.lower()}.part")
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    forget_parts(path)
    try:
        outline_target(src, between, type=kind)
        exact, size = between.stat().st_size, quantise.estimate(between, recipe, importance=importance)
        between.unlink()
        say(f"{path.name} will take {size / 1e9:.2f} GB; {exact / 1e9:.2f} GB more while it is made")
        need_room(path.parent, exact + size)
        convert_target(src, between, type=kind, progress=lambda done, of: progress("converting", done / max(1, of)))
        quantise.quantise(
            between,
            beside,
            recipe,
            importance=importance,
            threads=threads,
            progress=lambda done, of: progress(f"quantising to {recipe}", done / max(1, of)),
        )
        with beside.open("rb") as file:
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:
        raise ConvertError(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        between.unlink(missing_ok=True)
        beside.unlink(missing_ok=True)
