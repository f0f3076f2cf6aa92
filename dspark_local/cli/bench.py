"""`dspark-local bench MODEL`: plain against speculative decoding, on this machine."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

import click

from dspark_local.bench import machine, planning, report
from dspark_local.bench.prompts import built_in, read
from dspark_local.bench.tables import table
from dspark_local.bench.trials import run
from dspark_local.cli.options import Options, loading
from dspark_local.cli.progress import Progress
from dspark_local.errors import UsageError
from dspark_local.scheduling.scheduler import Auto

POLICIES = ("fixed:1", "fixed:3", "fixed:7", "threshold:0.5", "paper", "auto", "oracle")
FILE = click.Path(dir_okay=False, path_type=Path)


@click.command("bench")
@click.argument("model", default="demo")
@loading
@click.option("--prompts", type=FILE, help="One a line, or .jsonl with prompt, kind, temperature.  [default: built in]")
@click.option("--policies", metavar="NAMES", help=f"Compared with plain decoding.  [default: {' '.join(POLICIES)}]")
@click.option("--trials", type=click.IntRange(min=1), default=3, show_default=True, help="Answers to each prompt.")
@click.option("--max-tokens", type=click.IntRange(min=1), default=128, show_default=True, help="Of an answer.")
@click.option("--seed", type=int, default=1, show_default=True)
@click.option("--accept-rates", metavar="P,P,…", help="Only plan, with drafts accepted at these rates.")
@click.option("--json", "json_file", type=FILE, help="Write everything here.")
@click.option("--markdown", "markdown_file", type=FILE, help="Write the tables here.")
def command(
    options: Options,
    model: str,
    *,
    prompts: Path | None,
    policies: str | None,
    trials: int,
    accept_rates: str | None,
    json_file: Path | None,
    markdown_file: Path | None,
) -> int:
    """Compare plain and speculative decoding of MODEL: every policy answers the same prompts, in turns.

    `oracle` is told the acceptances beforehand, and shows the headroom.
    """
    assert options.max_tokens is not None  # both have defaults here
    seed: int = options.sampling["seed"]
    asked = read(prompts) if prompts else built_in()
    head = "\n".join(f"- {line}" for line in [*machine.describe(), f"model: {model}"])
    with Progress() as progress:
        runtime = options.open(model, progress)
        with runtime:
            most = runtime.info.block_size
            names = (policies or " ".join(p for p in POLICIES if p != "fixed:7" or most >= 7)).split()  # noqa: PLR2004
            if accept_rates is not None:
                if not isinstance(runtime.policy, Auto):
                    raise UsageError("there are no drafts to plan: this model runs without a drafter")
                accept = planning.rates(accept_rates, most)
                speeds = planning.planned(runtime.policy.cost, accept, names, seed=seed)
                click.echo(head)
                click.echo(f"\nPlanned, not measured: synthetic acceptance {accept_rates} on this machine's costs.\n")
                click.echo(table(("policy", "× plain"), [(name, f"{x:.2f}") for name, x in speeds.items()]))
                return 0
            found = run(
                runtime,
                asked,
                names,
                trials=trials,
                max_tokens=options.max_tokens,
                seed=seed,
                progress=progress,
            )
    head += f"\n- {trials} trials of at most {options.max_tokens} tokens"
    text = f"{head}\n\n{report.markdown(found)}\n\n{report.sentence(found)}\n"
    click.echo(text, nl=False)
    if markdown_file:
        write(markdown_file, f"# Bench of {model}\n\n{text}")
    if json_file:
        write(json_file, json.dumps({"machine": machine.describe(), "model": model, **report.data(found)}, indent=1))
    return 0


def write(path: Path, text: str) -> None:
    """Beside it first. Raises UsageError."""
    try:
        handle, beside = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".part")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(beside).replace(path)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from None
