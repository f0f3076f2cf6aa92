"""`dspark-local eval MODEL --suite FILE…`: what a pair's drafter is worth, task by task."""

from __future__ import annotations

import json
from pathlib import Path

import click

from dspark_local.bench import machine
from dspark_local.bench.suites import evaluate
from dspark_local.bench.suites_report import data, markdown
from dspark_local.cli.bench import write
from dspark_local.cli.options import Options, loading
from dspark_local.cli.progress import Progress
from dspark_local.errors import UsageError
from dspark_local.training.prompts import conversations

FILE = click.Path(dir_okay=False, path_type=Path)


@click.command("eval")
@click.argument("model", default="demo")
@loading
@click.option("--suite", "files", type=FILE, multiple=True, required=True, help="A task: prompts as for `train`.")
@click.option("--limit", type=click.IntRange(min=1), help="Use the first N prompts of each file.  [default: all]")
@click.option("--temperature", "temperatures", type=click.FloatRange(min=0), multiple=True, default=(0.0, 1.0))
@click.option("--max-tokens", type=click.IntRange(min=8), default=256, show_default=True, help="Of an answer.")
@click.option("--seed", type=int, default=1, show_default=True)
@click.option("--no-speed", is_flag=True, help="Do not answer again, plainly and by the policy, to compare speeds.")
@click.option("--json", "json_file", type=FILE, help="Write every figure here.")
def command(
    options: Options,
    model: str,
    *,
    files: tuple[Path, ...],
    limit: int | None,
    temperatures: tuple[float, ...],
    no_speed: bool,
    json_file: Path | None,
) -> int:
    """Accepted length, acceptance by position, confidence and speed of MODEL with its drafter, a file a task."""
    assert options.max_tokens is not None  # both have defaults here
    seed: int = options.sampling["seed"]
    suites = {path.stem: conversations(path)[:limit] for path in files}
    if len(suites) < len(files):
        raise UsageError("two of the suites have the same name; rename one")
    with Progress() as progress, options.open(model, progress) as runtime:
        tasks = evaluate(
            runtime,
            suites,
            temperatures=temperatures,
            max_tokens=options.max_tokens,
            seed=seed,
            speed=not no_speed,
            progress=progress,
        )
    click.echo("\n".join(f"- {line}" for line in [*machine.describe(), f"model: {model}"]))
    click.echo(f"\n{markdown(tasks)}")
    if json_file:
        write(json_file, json.dumps({"machine": machine.describe(), "model": model, "tasks": data(tasks)}, indent=1))
    return 0
