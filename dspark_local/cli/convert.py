"""`dspark-local convert target|draft`: a checkpoint folder becomes a GGUF file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from dspark_local.cli.progress import Progress
from dspark_local.errors import ConvertError

if TYPE_CHECKING:
    from collections.abc import Callable

FOLDER = click.Path(path_type=Path)
to = click.option("--to", "kind", default="Q4_0", show_default=True, help="F32, F16, BF16, Q8_0 or Q4_0.")
out = click.option("--out", type=FOLDER, help="The file to write; by default named after the checkpoint, here.")


@click.group("convert")
def command() -> None:
    """Turn the checkpoint of a target or of its drafter into a GGUF file."""


@command.command("target")
@click.argument("src", type=FOLDER)
@to
@out
def target(src: Path, kind: str, out: Path | None) -> int:
    """Convert the target in folder SRC (Qwen3)."""
    from dspark_local.convert import convert_target  # noqa: PLC0415 - it loads gguf and safetensors

    path = out or Path(f"{src.resolve().name}-{kind.upper()}.gguf")
    return _written(path, lambda report: convert_target(src, path, type=kind, progress=report))


@command.command("draft")
@click.argument("src", type=FOLDER)
@click.option("--target", "of", type=FOLDER, required=True, help="Its target: a checkpoint folder or a GGUF file.")
@to
@out
def draft(src: Path, of: Path, kind: str, out: Path | None) -> int:
    """Convert the drafter in folder SRC (DeepSpec's Qwen3DSparkModel), trained for a target."""
    from dspark_local.convert import convert_draft  # noqa: PLC0415 - as above

    path = out or Path(f"dspark-{of.resolve().name.removesuffix('.gguf')}-{kind.upper()}.gguf")
    return _written(path, lambda report: convert_draft(src, of, path, type=kind, progress=report))


def _written(path: Path, convert: Callable[[Callable[[int, int], None]], object]) -> int:
    if path.is_dir():
        raise ConvertError(f"{path} is a folder; give --out a file name")
    with Progress() as progress:
        convert(lambda done, of: progress(f"writing {path.name}", done / max(1, of)))
    click.echo(path)
    return 0
