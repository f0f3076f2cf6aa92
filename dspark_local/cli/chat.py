"""`dspark-local chat [MODEL]`: the chat, or without a terminal one built-in prompt to its end."""

from __future__ import annotations

import sys

import click

from dspark_local.cli.answer import write
from dspark_local.cli.main import say
from dspark_local.cli.names import ModelName
from dspark_local.cli.options import Options, common
from dspark_local.cli.progress import Progress
from dspark_local.models.locations import resolve

PROMPT = "What does random.choice do?"


@click.command("chat")
@click.argument("model", default="demo", type=ModelName())
@common
def command(options: Options, model: str) -> int:
    """Talk with MODEL in the terminal: a name (`dspark-local models list`), user/repo:QUANT of the hub, or a GGUF file.

    Without a terminal it answers one built-in prompt and ends.
    """
    if not (sys.stdin.isatty() and sys.stdout.isatty() and sys.stderr.isatty()):  # Textual draws on the last
        say(f"no terminal, so one prompt: {PROMPT}")
        with Progress() as progress:
            runtime = options.open(model, progress)
        with runtime:
            generation = runtime.chat(options.messages(PROMPT), max_tokens=options.max_tokens)
            return write(generation, seed=runtime.preset.draws)

    resolve(model, options.chosen_drafter)  # a wrong name is told here, before a screen opens
    from dspark_local.tui import Settings, run  # noqa: PLC0415 - without a terminal Textual is never loaded

    settings = Settings(max_tokens=options.max_tokens, system=options.system)
    run(lambda progress: options.open(model, progress), settings)
    return 0
