"""`dspark-local serve [MODEL]`: a server in the protocols of OpenAI and Anthropic."""

from __future__ import annotations

import importlib.util
import signal
from typing import NoReturn

import click

from dspark_local.cli.main import say
from dspark_local.cli.names import ModelName
from dspark_local.cli.options import Options, serving
from dspark_local.cli.progress import Progress
from dspark_local.errors import UsageError

EXTRA = ("fastapi", "uvicorn", "prometheus_client")
MISSING = "serving needs more packages: pip install 'dspark-local[server]'"


@click.command("serve")
@click.argument("model", default="demo", type=ModelName())
@serving
@click.option("--host", metavar="ADDRESS", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", metavar="N", type=click.IntRange(0, 65535), default=8080, show_default=True, help="0: a free one."
)
@click.option(
    "--api-key",
    metavar="KEY",
    envvar="DSPARK_API_KEY",
    help="Ask clients for KEY; better given as DSPARK_API_KEY, which no list of processes shows.",
)
@click.option("--name", metavar="NAME", help="What clients call the model.  [default: as it is called here]")
@click.option("--cors", metavar="ORIGIN", multiple=True, help="Let web pages of ORIGIN use the server; repeatable.")
@click.option("--max-body", metavar="BYTES", type=click.IntRange(min=1), default=8 << 20, help="Of a request.  [8 MiB]")
@click.option(
    "--max-prompt", metavar="N", type=click.IntRange(min=1), help="Tokens of a prompt.  [what the context holds]"
)
@click.option("--max-queue", metavar="N", type=click.IntRange(min=0), default=64, show_default=True, help="That wait.")
@click.option(
    "--max-seconds",
    metavar="S",
    type=click.FloatRange(min=0, min_open=True),
    default=600.0,
    show_default=True,
    help="From request to end.",
)
@click.option(
    "--grace",
    metavar="S",
    type=click.FloatRange(min=0),
    default=30.0,
    show_default=True,
    help="For answers, at shutdown.",
)
def command(
    options: Options,
    model: str,
    host: str,
    port: int,
    api_key: str | None,
    name: str | None,
    cors: tuple[str, ...],
    max_body: int,
    max_prompt: int | None,
    max_queue: int,
    max_seconds: float,
    grace: float,
) -> int:
    """Serve MODEL over HTTP, to this machine alone unless --host says otherwise; Ctrl-C stops.

    OpenAI: /v1/chat/completions, /v1/completions, /v1/responses, /v1/models. Anthropic: /v1/messages. Further:
    /health, /metrics, /openapi.json.
    """
    if not all(importlib.util.find_spec(package) for package in EXTRA):
        raise UsageError(MISSING)
    from dspark_local.server.app import create_app  # noqa: PLC0415 - the extra may be missing
    from dspark_local.server.guard import is_loopback  # noqa: PLC0415 - as above
    from dspark_local.server.limits import Limits  # noqa: PLC0415 - as above
    from dspark_local.server.listening import bound, server  # noqa: PLC0415 - as above

    if not api_key and not is_loopback(host):
        raise UsageError(f"listening on {host} lets others in: set DSPARK_API_KEY, or leave --host out")
    limits = Limits(
        body=max_body,
        prompt=max_prompt,
        seconds=max_seconds,
        grace=grace,
        max_tokens=options.max_tokens,
    )
    with bound(host, port) as listener:
        signal.signal(signal.SIGTERM, _end)
        with Progress() as progress:
            runtime = options.open(model, progress, max_waiting=max_queue)
        with runtime:
            app = create_app(runtime, key=api_key or None, host=host, limits=limits, name=name, origins=cors)
            address = f"[{host}]" if ":" in host else host
            say(f"{name or runtime.info.model} answers at http://{address}:{listener.getsockname()[1]}")
            server(app, limits).run(sockets=[listener])
    return 0


def _end(_signal: int, _frame: object) -> NoReturn:
    raise SystemExit(0)
