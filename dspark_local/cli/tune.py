"""`dspark-local tune MODEL`: measure, calibrate, and say what to expect."""

from __future__ import annotations

from pathlib import Path

import click

from dspark_local.bench.prompts import built_in, read
from dspark_local.bench.tuning import tune
from dspark_local.bench.tuning_report import text
from dspark_local.cli.options import Options, loading
from dspark_local.cli.progress import Progress

FILE = click.Path(dir_okay=False, path_type=Path)


@click.command("tune")
@click.argument("model", default="demo")
@loading
@click.option("--prompts", type=FILE, help="One a line, or .jsonl.  [default: built in]")
@click.option("--max-tokens", type=click.IntRange(min=8), default=96, show_default=True, help="Of an answer.")
def command(options: Options, model: str, *, prompts: Path | None) -> int:
    """Time MODEL's decodes on this machine and calibrate its drafter's confidence.

    Both are kept, and used whenever the pair is loaded again. Half of the prompts judge what the other half fitted.
    """
    assert options.max_tokens is not None  # it has a default here
    asked = read(prompts) if prompts else built_in()
    with Progress() as progress, options.open(model, progress, remeasure=True) as runtime:
        found = tune(runtime, asked, max_tokens=options.max_tokens, progress=progress)
    click.echo(text(found))
    return 0
