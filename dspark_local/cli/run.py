"""`dspark-local run MODEL PROMPT`: one answer."""

from __future__ import annotations

import sys

import click

from dspark_local.cli.answer import write
from dspark_local.cli.names import ModelName
from dspark_local.cli.options import Options, common
from dspark_local.cli.progress import Progress


@click.command("run")
@click.argument("model", type=ModelName())
@click.argument("prompt")
@common
@click.option("--raw", is_flag=True, help="Continue PROMPT as it is, without the chat template.")
@click.option("--stop", metavar="TEXT", multiple=True, help="End the answer where TEXT would appear; repeatable.")
@click.option("--logprobs", metavar="N", type=int, help="With --json: log-probabilities of each token and the N best.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object: text, tokens, finish_reason, stats.")
def command(options: Options, model: str, prompt: str, *, raw: bool, stop: tuple[str, ...], as_json: bool) -> int:
    """Answer PROMPT with MODEL: a name (`dspark-local models list`), user/repo:QUANT of the hub, or a GGUF file.

    The text goes to standard output, one line of statistics to standard error. A PROMPT of - reads standard input.
    """
    if raw and options.system:
        raise click.UsageError("--raw sends PROMPT as it is: --system has no place in it.")
    if "logprobs" in options.sampling and not as_json:
        raise click.UsageError("--logprobs is printed by --json only; add it.")
    text = _read(prompt, raw=raw)
    with Progress() as progress:
        runtime = options.open(model, progress)
    with runtime:
        if raw:
            generation = runtime.generate(text, max_tokens=options.max_tokens, stop=stop)
        else:
            generation = runtime.chat(options.messages(text), max_tokens=options.max_tokens, stop=stop)
        return write(generation, vocab=runtime.vocab if as_json else None, seed=runtime.preset.draws)


def _read(prompt: str, *, raw: bool) -> str:
    if prompt != "-":
        return prompt.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    text = sys.stdin.buffer.read().decode("utf-8", "replace")
    return text if raw else text.removesuffix("\n").removesuffix("\r")
