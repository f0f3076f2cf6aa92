"""The command and its subcommands, each imported when it is used; and what a user sees when something goes wrong."""

from __future__ import annotations

import importlib
import io
import logging
import os
import sys
import traceback
from typing import TYPE_CHECKING

import click

from dspark_local.errors import DSparkError

if TYPE_CHECKING:
    from collections.abc import Sequence

PROGRAM = "dspark-local"
INTERRUPTED = 130  # 128 + SIGINT, as shells have it

# One row a command: the module dspark_local.cli.<name>, whose `command` it is, and its line in --help.
COMMANDS = {
    "chat": "Talk with a model in the terminal.",
    "run": "Answer one prompt, to standard output.",
    "serve": "Answer the protocols of OpenAI and Anthropic over HTTP.",
    "models": "List, fetch, find and remove models.",
    "convert": "Turn a checkpoint into a GGUF file.",
    "inspect": "Say what a model file is, and what it fits.",
    "train": "Train a drafter for a target.",
    "eval": "Accepted length, confidence and speed of a pair, task by task.",
    "tune": "Measure this machine and calibrate a drafter.",
    "bench": "Compare plain and speculative decoding.",
    "doctor": "Say what works on this machine, what does not, and what to do.",
}


class Commands(click.Group):
    """Subcommands by name; `--help` imports none of them."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Names, in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - as above
        """The command of that name."""
        if cmd_name not in COMMANDS:
            return None
        command = importlib.import_module(f"dspark_local.cli.{cmd_name}").command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - as above
        """The table of commands in `--help`."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=Commands, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="dspark-local", prog_name=PROGRAM)
@click.pass_context
def commands(ctx: click.Context) -> None:
    """DSpark speculative decoding over llama.cpp: the target's own text, only sooner."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0, 1 for our mistake, 2 for the user's, 130 for Ctrl-C."""
    _prepare()
    try:
        return int(commands.main(arguments, prog_name=PROGRAM, standalone_mode=False) or 0)
    except click.ClickException as error:
        context = error.ctx if isinstance(error, click.UsageError) else None
        return _fail(f"{error.format_message()} Try `{context.command_path if context else PROGRAM} --help`.")
    except DSparkError as error:
        if debugging():
            traceback.print_exc()
        return _fail(str(error))
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except Exception as error:  # noqa: BLE001 - the last line of defence: a user never meets a traceback unasked
        if debugging():
            traceback.print_exc()
        name = type(error).__name__
        _fail(f"a bug of ours, please report it: {name}: {error} (DSPARK_DEBUG=1 shows the traceback)")
        return 1


def debugging() -> bool:
    """Whether the user asked for tracebacks and llama.cpp's own log."""
    return os.environ.get("DSPARK_DEBUG", "") not in ("", "0")


def say(text: str) -> None:
    """One line on standard error, over whatever progress stood there."""
    erase = "\r\x1b[2K" if sys.stderr.isatty() else ""
    sys.stderr.write(f"{erase}{PROGRAM}: {' '.join(text.split())}\n")
    sys.stderr.flush()


def _fail(text: str) -> int:
    say(text)
    return 2


class _Warnings(logging.Handler):
    """What the library warns of, as lines of ours."""

    def emit(self, record: logging.LogRecord) -> None:
        """One line; llama.cpp's own words only for who debugs."""
        if debugging() or not record.name.startswith("dspark_local.llama"):
            say(record.getMessage())


def _prepare() -> None:
    for stream in (sys.stdout, sys.stderr):  # a terminal without UTF-8 gets question marks, not a traceback
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")  # what the hub's client warns of, we say in one line
    logger = logging.getLogger("dspark_local")
    if not any(isinstance(handler, _Warnings) for handler in logger.handlers):
        logger.addHandler(_Warnings(logging.WARNING))
        logger.propagate = False


if __name__ == "__main__":
    sys.exit(main())
