"""`dspark-local train TARGET --prompts FILE… --out DIR`: a drafter for any target, from the target alone."""

from __future__ import annotations

from pathlib import Path

import click

from dspark_local.cli.main import say
from dspark_local.cli.progress import Progress
from dspark_local.errors import UsageError

PATH = click.Path(path_type=Path)


@click.command("train")
@click.argument("target")
@click.option("--prompts", "files", type=PATH, multiple=True, required=True, help="One a line, or .jsonl; repeatable.")
@click.option("--out", type=PATH, required=True, help="Folder of the run; the same again goes on with it.")
@click.option("--finetune", metavar="DRAFTER", type=PATH, help="Start from this drafter: a GGUF, or a checkpoint.")
@click.option("--steps", type=click.IntRange(min=1), default=2000, show_default=True)
@click.option("--limit", type=click.IntRange(min=1), help="Use the first N prompts.  [default: all]")
@click.option("--max-tokens", type=click.IntRange(min=16), default=512, show_default=True, help="Of an answer.")
@click.option("--sampled", type=click.FloatRange(0, 1), default=1 / 3, help="Share answered at T = 1.  [default: 1/3]")
@click.option("--slots", type=click.IntRange(1, 64), default=16, show_default=True, help="Answers at once.")
@click.option("--layers", metavar="I,I,…", help="Layers whose outputs are tapped.  [default: by the target's depth]")
@click.option("--depth", type=click.IntRange(min=1), help="Layers of the drafter.  [default: by the target's depth]")
@click.option("--block", type=click.IntRange(2, 16), default=7, show_default=True, help="Tokens of a draft block.")
@click.option("--rank", type=click.IntRange(min=32), help="Of the Markov head.  [default: by the width, 256 at most]")
@click.option("--mask-token", type=int, metavar="ID", help="Token that fills a block.  [default: one that is unused]")
@click.option("--rate", type=click.FloatRange(min=0, min_open=True), default=1.0, help="Learning rates times this.")
@click.option("--batch-tokens", type=click.IntRange(min=64), default=3072, show_default=True)
@click.option("--anchors", type=click.IntRange(min=1), default=24, show_default=True, help="Blocks of a text.")
@click.option("--interval", type=click.IntRange(min=1), default=250, show_default=True, help="Steps to a judgement.")
@click.option("--patience", type=click.IntRange(min=1), default=8, show_default=True, help="Judgements to wait.")
@click.option("--seed", type=int, default=1, show_default=True)
@click.option("--cache", metavar="GIB", type=click.FloatRange(min=0, min_open=True), default=8.0, show_default=True)
@click.option(
    "--dtype", type=click.Choice(["bf16", "f32"]), default="bf16", show_default=True, help="bf16: where that is quick."
)
@click.option("--device", default="cpu", show_default=True, help="Of torch: cpu, cuda, cuda:1.")
@click.option("--threads", metavar="N", type=click.IntRange(min=1), help="CPU threads.  [default: physical cores]")
@click.option("--gpu-layers", metavar="N", type=int, default=-1, help="Layers of the target on the GPU.")
@click.option("--to", "kind", metavar="TYPE", help="Type of the GGUF.  [default: Q8_0, or F16 where that goes not]")
@click.option("--file", type=PATH, help="The GGUF to write.  [default: dspark-TARGET-TYPE.gguf beside the target]")
@click.option("--name", help="Register the pair under this name.")
def command(
    target: str,
    *,
    files: tuple[Path, ...],
    out: Path,
    finetune: Path | None,
    steps: int,
    limit: int | None,
    max_tokens: int,
    sampled: float,
    slots: int,
    layers: str | None,
    depth: int | None,
    block: int,
    rank: int | None,
    mask_token: int | None,
    rate: float,
    batch_tokens: int,
    anchors: int,
    interval: int,
    patience: int,
    seed: int,
    cache: float,
    dtype: str,
    device: str,
    threads: int | None,
    gpu_layers: int,
    kind: str | None,
    file: Path | None,
    name: str | None,
) -> int:
    """Train a drafter for TARGET on what TARGET answers to the prompts.

    Answers, states and checkpoints are in the folder of --out; the command may be killed and given again.
    """
    from dspark_local.training.answers import Asking  # noqa: PLC0415 - they load llama.cpp's wrapper and more
    from dspark_local.training.plan import GIB, Plan  # noqa: PLC0415
    from dspark_local.training.schedule import Schedule  # noqa: PLC0415
    from dspark_local.training.train import train  # noqa: PLC0415

    plan = Plan(
        schedule=Schedule(
            steps=steps,
            seed=seed,
            tokens=batch_tokens,
            anchors=anchors,
            rate=rate,
            interval=interval,
            patience=patience,
        ),
        asking=Asking(seed=seed, max_tokens=max_tokens, sampled=sampled),
        slots=slots,
        limit=limit,
        depth=depth,
        layers=_layers(layers),
        block_size=block,
        rank=rank,
        mask=mask_token,
        finetune=finetune,
        cache=int(cache * GIB),
        kept="bf16" if dtype == "bf16" else "f32",
        device=device,
        threads=threads,
        gpu_layers=gpu_layers,
        type=kind and kind.upper(),
        name=name,
        file=file,
    )
    with Progress() as progress:
        written = train(target, files, out, plan, tell=say, progress=progress)
    click.echo(written)
    if name:
        say(f"the pair is registered: dspark-local chat {name}")
    return 0


def _layers(text: str | None) -> tuple[int, ...] | None:
    try:
        return None if text is None else tuple(int(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"--layers is a list of numbers, as in 1,9,17; not {text!r}") from None
