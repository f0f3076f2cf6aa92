"""`dspark-local chat [MODEL]`: the chat, or without a terminal one built-in prompt to its end."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from dspark_local.cli.answer import write
from dspark_local.cli.main import say
from dspark_local.cli.names import ModelName
from dspark_local.cli.options import Options, conversing
from dspark_local.cli.progress import Progress
from dspark_local.models.locations import resolve

if TYPE_CHECKING:
    from collections.abc import Callable

    from dspark_local.runtime import Runtime
    from dspark_local.tui import Choice

PROMPT = "What does random.choice do?"


@click.command("chat")
@click.argument("model", default="demo", type=ModelName())
@conversing
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

    def opened(choice: Choice, progress: Callable[[str, float], None]) -> Runtime:
        mine = options if choice.model == model else replace(options, drafter=options.kind_of_drafter)
        return replace(mine, policy=choice.policy or options.policy).open(choice.model, progress)

    drafter = "none" if options.no_draft else options.kind_of_drafter
    settings = Settings(model=model, drafter=drafter, max_tokens=options.max_tokens, system=options.system)
    run(opened, settings)
    return 0
