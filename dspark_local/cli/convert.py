"""`dspark-local convert target|draft`: a checkpoint, in a folder or on the hub, becomes a GGUF file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dspark_local.cli.main import say
from dspark_local.cli.progress import Progress
from dspark_local.errors import ConvertError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

PATH = click.Path(path_type=Path)
out = click.option("--out", type=PATH, help="The file to write; by default named after the checkpoint, here.")
_PART = re.compile(r"-\d{5}-of-\d{5}$")
_TYPE = re.compile(r"[-.](F32|F16|BF16|I?Q\d\w*|MXFP4\w*|NVFP4)$", re.IGNORECASE)
_STREAMED = ("F32", "F16", "BF16", "Q8_0")  # written tensor by tensor; other types are made by llama.cpp's quantiser


@click.group("convert")
def command() -> None:
    """Turn the checkpoint of a target or of its drafter into a GGUF file."""


@command.command("target")
@click.argument("src")
@click.option(
    "--to",
    "kind",
    help="F32, F16, BF16, Q8_0, Q4_0, Q4_K_M and so on; by default Q4_K_M, and for 4-bit weights, which are "
    "kept as they are, the type that holds the others exactly.",
)
@click.option("--imatrix", type=PATH, help="An importance matrix by llama-imatrix, for types of llama.cpp's quantiser.")
@out
def target(src: str, kind: str | None, imatrix: Path | None, out: Path | None) -> int:
    """Convert the target SRC, a folder or a hub id (Llama, Mistral, Qwen2, Qwen3, Gemma 2 to 4)."""
    from dspark_local.cli.quantised import convert_quantised  # noqa: PLC0415 - it loads gguf, llama.cpp and more
    from dspark_local.convert import convert_target, exact_type, keeps_codes, published_name  # noqa: PLC0415
    from dspark_local.loading import default_threads  # noqa: PLC0415

    folder = _found(src)
    kept = keeps_codes(folder)
    kind = (kind or (exact_type(folder) if kept else "Q4_K_M")).upper()
    if kept and kind not in _STREAMED:
        raise UsageError(f"{src} has 4-bit weights, which are kept; --to is of the others: {', '.join(_STREAMED)}")
    path = out or Path(f"{published_name(folder)}-{kind}.gguf")
    if kind in _STREAMED:
        if imatrix:
            raise UsageError(f"--imatrix has no effect on {kind}")
        return _written(path, lambda report: convert_target(folder, path, type=kind, progress=report, tell=_tell))
    _refuse_folder(path)
    with Progress() as progress:
        convert_quantised(folder, path, kind, imatrix=imatrix, threads=default_threads(), say=say, progress=progress)
    click.echo(path)
    return 0


@command.command("draft")
@click.argument("src")
@click.option("--target", "of", required=True, help="Its target: a checkpoint folder, a GGUF file, or a hub id.")
@click.option("--to", "kind", default="Q4_0", show_default=True, help="F32, F16, BF16, Q8_0 or Q4_0.")
@click.option(
    "--out",
    type=PATH,
    help="The file to write; by default dspark-TARGET-TYPE.gguf beside the target's GGUF, else here.",
)
def draft(src: str, of: str, kind: str, out: Path | None) -> int:
    """Convert the drafter SRC, a folder or a hub id, trained for a target.

    DeepSpec's, speculators', LFM2's and DeepSeek-V4's DSpark, and DFlash.
    """
    from dspark_local.convert import STAGES, convert_draft  # noqa: PLC0415 - it loads gguf and safetensors

    target, folder = _target(of), _found(src, part=STAGES)
    beside = target.absolute().parent if Path(of).is_file() else Path()
    path = out or beside / f"dspark-{_target_name(target)}-{kind.upper()}.gguf"
    return _written(path, lambda report: convert_draft(folder, target, path, type=kind, progress=report, tell=_tell))


@command.command("repair")
@click.argument("draft", type=PATH)
@click.option("--target", "of", required=True, help="Its target: a checkpoint folder, a GGUF file, or a hub id.")
@click.option("--out", type=PATH, help="The mended file; by default DRAFT itself, replaced when the new one is whole.")
def repair(draft: Path, of: str, out: Path | None) -> int:
    """Mend a drafter's GGUF whose head would be tied to its embedding, though its target's is not.

    llama.cpp's own converter makes such files; their drafts are garbage.
    """
    from dspark_local.convert import repair_draft  # noqa: PLC0415 - it loads gguf and safetensors

    path = out or draft
    _refuse_folder(path)
    target = _target(of)
    with Progress() as progress:
        mended = repair_draft(draft, target, path, progress=lambda done, n: progress("mending", done / max(1, n)))
    if mended is None:
        say(f"{draft} needs no mending")
        return 0
    click.echo(mended)
    return 0


@command.command("trim")
@click.argument("draft", type=PATH)
@click.option("--target", "of", type=PATH, required=True, help="Its target, a GGUF file.")
@click.option("--tokens", default=32768, show_default=True, help="How many tokens it may still draft.")
@click.option("--text", type=PATH, multiple=True, help="A text file like what is to be drafted; may be repeated.")
@click.option("--out", type=PATH, help="The file to write; by default DRAFT-vTOKENS.gguf beside it.")
def trim(draft: Path, of: Path, tokens: int, text: tuple[Path, ...], out: Path | None) -> int:
    """Leave a drafter's GGUF only the likeliest tokens to draft, which makes drafting cheaper.

    Those that are frequent in --text, or without it in English prose and code. Tokens that are left out are still
    written, by the target. docs/convert.md says what it gains and costs.
    """
    from dspark_local.cli.counts import count_tokens, read_texts, standard_texts  # noqa: PLC0415 - it loads llama.cpp
    from dspark_local.convert import trim_draft  # noqa: PLC0415 - it loads gguf

    path = out or draft.with_name(f"{draft.stem}-v{tokens}.gguf")
    counts = count_tokens(of, read_texts(text) if text else standard_texts())
    return _written(path, lambda report: trim_draft(draft, of, path, tokens=tokens, counts=counts, progress=report))


def _found(src: str, *, part: str = "") -> Path:
    """Folder of the checkpoint that SRC names; one on the hub is fetched, `part` of it if it has such tensors."""
    from dspark_local.models.checkpoints import find_checkpoint  # noqa: PLC0415 - the hub's client takes half a second

    with Progress() as progress:
        return find_checkpoint(src, progress, part=part)


def _target(of: str) -> Path:
    """GGUF or folder that --target names; one on the hub is fetched."""
    from dspark_local.models.checkpoints import find_target  # noqa: PLC0415 - as above

    with Progress() as progress:
        return find_target(of, progress)


def _tell(name: str, kind: str, error: float) -> None:
    """One line of the report on weights that keep their codes."""
    how = "exact" if error == 0 else f"within {error:.2g} of a step, by the rounding of its scale to F16"
    click.echo(f"{name:<32} {kind:<6} {how}", err=True)


def _target_name(of: Path) -> str:
    """What is common to a target's files of all types: Qwen3-8B of Qwen3-8B-Q4_K_M-00001-of-00002.gguf."""
    if of.is_dir():
        from dspark_local.convert import published_name  # noqa: PLC0415 - it loads gguf and safetensors

        return published_name(of)
    return _TYPE.sub("", _PART.sub("", of.name.removesuffix(".gguf")))


def _written(path: Path, convert: Callable[[Callable[[int, int], None]], object]) -> int:
    _refuse_folder(path)
    with Progress() as progress:
        convert(lambda done, of: progress(f"writing {path.name}", done / max(1, of)))
    click.echo(path)
    return 0


def _refuse_folder(path: Path) -> None:
    if path.is_dir():
        raise ConvertError(f"{path} is a folder; give --out a file name")
