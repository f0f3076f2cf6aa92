"""`dspark-local models [list|pull|rm|info|path]`: what can be run by name, and what of it is here."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from dspark_local.cli.main import say
from dspark_local.cli.names import ModelName
from dspark_local.cli.progress import Progress
from dspark_local.errors import ModelError, ModelNotFoundError, UsageError
from dspark_local.models import registry
from dspark_local.models.locations import Remote, Wanted, located, resolve
from dspark_local.models.progress import size

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dspark_local.models.registry import Source

model = click.argument("model", type=ModelName())
drafter = click.option("--drafter", default="auto", help="As for `run`; none leaves the drafter alone.")


@click.group("models", invoke_without_command=True)
@click.pass_context
def command(ctx: click.Context) -> None:
    """List, fetch, find and remove models."""
    if ctx.invoked_subcommand is None:
        ctx.invoke(list_models)


@command.command("list")
def list_models() -> int:
    """Names of the registry, and what of the hub is here already."""
    from dspark_local.models import cache  # noqa: PLC0415 - the hub's client takes half a second

    rows = registry.rows()
    width = max(map(len, rows))
    for name, row in rows.items():
        click.echo(f"{name:<{width}}  {_state(row.target):<12} {row.description}")
    known = {source.repo for row in rows.values() for source in (*row.target.values(), *row.drafters)}
    for repo in cache.repos():
        files = [f for f in cache.files(repo) if f.path.endswith(".gguf")] if repo not in known else []
        for file in files:
            click.echo(f"{repo}  {size(file.size)}  {file.path}")
    return 0


def _state(target: dict[str, Source]) -> str:
    from dspark_local.models import download  # noqa: PLC0415 - as above

    here = [q for q, s in target.items() if s.package or s.path or download.present(s, q)]
    return ", ".join(here) if here else "on the hub" if target else "no GGUF"


@command.command("pull")
@model
@drafter
@click.option("--dry-run", is_flag=True, help="Say what would be fetched and how large it is; fetch nothing.")
def pull(model: str, drafter: str, *, dry_run: bool) -> int:
    """Fetch MODEL and its drafter, or what of them is missing."""
    from dspark_local.models import download  # noqa: PLC0415 - as above
    from dspark_local.outlook import outlook  # noqa: PLC0415 - as above

    wanted = resolve(model, drafter)
    target = None
    remotes = list(_remotes(wanted))
    if not remotes:
        say(f"{model} needs nothing from the hub")
    elif dry_run:
        say(outlook(model, drafter).words)
    for what, remote in remotes:
        plan = download.plan(remote.source, remote.quant, checkpoints=what == "drafter")
        say(f"{what}: {plan.repo}, {len(plan.files)} files, {size(plan.size)}, {size(plan.missing)} to fetch")
        if not dry_run:
            with Progress() as progress:
                path = download.fetch(plan, progress)
                target = target or path
                if path.is_dir():
                    path = located(remote, progress, drafts_for=target)
            click.echo(path)
    return 0


@command.command("rm")
@model
@drafter
def remove(model: str, drafter: str) -> int:
    """Remove MODEL's files, and its drafter's, from the cache."""
    from dspark_local.models import cache, download  # noqa: PLC0415 - as above

    freed = 0
    for what, remote in _remotes(resolve(model, drafter)):
        path = download.present(remote.source, remote.quant, checkpoints=what == "drafter")
        root = cache.snapshot(remote.source.repo or "", remote.source.revision)
        if path is None or root is None:
            continue
        files = cache.files(remote.source.repo or "", remote.source.revision)
        names = [f.path for f in files] if path.is_dir() else download.parts(path.relative_to(root).as_posix(), files)
        try:
            freed += cache.remove(remote.source.repo or "", names, remote.source.revision)
        except OSError as error:  # Windows removes nothing that a program has open
            why = error.strerror or error
            raise ModelError(f"{error.filename or path} cannot be removed ({why}); is it running?") from None
    if not freed:
        raise ModelNotFoundError(f"nothing of {model} is in the cache")
    say(f"{size(freed)} freed")
    return 0


@command.command("path")
@click.argument("model", type=ModelName(), required=False)
@drafter
@click.option("--registry", "of_registry", is_flag=True, help="Where a registry file of your own belongs.")
def path(model: str | None, drafter: str, *, of_registry: bool) -> int:
    """Print where MODEL's file is, and its drafter's; fails if one is not here."""
    if of_registry:
        click.echo(registry.user_file())
        return 0
    if model is None:
        raise UsageError("give a MODEL, or --registry")
    wanted = resolve(model, drafter)
    for what, where in (("target", wanted.target), ("drafter", wanted.drafter)):
        if where is not None:
            click.echo(_here(model, what, where))
    return 0


def _here(model: str, what: str, where: Path | Remote) -> Path:
    if isinstance(where, Path):
        return where
    from dspark_local.models import download  # noqa: PLC0415 - as above

    found = download.present(where.source, where.quant, checkpoints=what == "drafter")
    if found is None:
        raise ModelNotFoundError(f"the {what} of {model} is not here; `dspark-local models pull {model}` fetches it")
    return found


@command.command("info")
@click.argument("name", type=ModelName())
def info(name: str) -> int:
    """Print what the registry knows of NAME."""
    row = registry.row(name)
    click.echo(f"{name}: {row.description}")
    sampling = ", ".join(f"{key} {value:g}" for key, value in row.sampling.model_dump(exclude_none=True).items())
    facts = {"licence": row.licence, "context": row.context, "sampling": sampling, "checked": row.checked}
    for key, value in facts.items():
        if value:
            click.echo(f"  {key:<9} {value}")
    for quant, source in row.target.items():
        click.echo(f"  target    {quant}: {_where(source)}")
    for source in row.drafters:
        click.echo(f"  drafter   {source.kind}: {_where(source)}")
    return 0


def _where(source: Source) -> str:
    if source.package:
        return f"{source.package}, installed"
    if source.path:
        return f"{source.path}, here"
    known = [source.file or "", size(source.size) if source.size else ""]
    return " ".join(filter(None, [source.repo, *known]))


def _remotes(wanted: Wanted) -> Iterator[tuple[str, Remote]]:
    for what, where in (("target", wanted.target), ("drafter", wanted.drafter)):
        if isinstance(where, Remote):
            yield what, where
