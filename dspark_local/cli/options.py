"""The options that `chat` and `run` share: one decorator in, one frozen record out."""

from __future__ import annotations

import functools
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import click

from dspark_local.chat import Message
from dspark_local.errors import UsageError
from dspark_local.loading import FIXED_WIDTH, load
from dspark_local.types import SamplingParams

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dspark_local.runtime import Runtime


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the user chose."""

    drafter: str = "auto"
    no_draft: bool = False
    policy: str = "auto"
    fixed_width: bool = False
    seed: int | None = None
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    max_tokens: int | None = None
    ctx_size: int | None = None
    threads: int | None = None
    gpu_layers: int = -1
    system: str | None = None

    @property
    def sampling(self) -> SamplingParams:
        """How tokens are drawn. Raises UsageError."""
        return SamplingParams(
            temperature=self.temperature, top_k=self.top_k, top_p=self.top_p, min_p=self.min_p, seed=self.seed
        )

    @property
    def chosen_drafter(self) -> str:
        """The loader's auto, none or a path. Raises UsageError when two options contradict each other."""
        if not self.no_draft:
            return self.drafter
        if self.drafter not in ("auto", "none"):
            raise UsageError("--drafter and --no-draft contradict each other; leave one out")
        return "none"

    def messages(self, prompt: str) -> list[Message]:
        """The conversation that begins with this prompt."""
        system = [Message("system", self.system)] if self.system else []
        return [*system, Message("user", prompt)]

    def open(
        self, model: str, progress: Callable[[str, float], None] | None = None, *, remeasure: bool = False
    ) -> Runtime:
        """Load the pair. Raises as `load` does."""
        return load(
            model,
            drafter=self.chosen_drafter,
            policy=self.policy,
            fixed_width=FIXED_WIDTH if self.fixed_width else None,
            ctx_size=self.ctx_size,
            threads=self.threads,
            gpu_layers=self.gpu_layers,
            remeasure=remeasure,
            progress=progress,
        )


_LOADING = (
    click.option(
        "--drafter",
        metavar="DRAFTER",
        default="auto",
        help="auto, dspark, model, lookup, none, a file, or user/repo of the hub.",
    ),
    click.option(
        "--ctx-size",
        metavar="N",
        type=click.IntRange(min=1),
        help="Tokens of context.  [default: the model's, 8192 at most]",
    ),
    click.option("--threads", metavar="N", type=int, help="CPU threads.  [default: physical cores]"),
    click.option("--gpu-layers", metavar="N", type=int, default=-1, help="Layers on the GPU.  [default: all that fit]"),
)
_ANSWERING = (
    click.option("--no-draft", is_flag=True, help="Decode plainly, without a drafter."),
    click.option(
        "--policy",
        metavar="NAME",
        default="auto",
        show_default=True,
        help="How many tokens a round drafts: auto, plain, fixed:N, threshold:P or paper.",
    ),
    click.option(
        "--fixed-width",
        is_flag=True,
        help=f"Decode {FIXED_WIDTH} rows each round, always: the text then depends on seed and target alone.",
    ),
    click.option("--seed", metavar="N", type=int, help="The same seed gives the same text.  [default: a drawn one]"),
    click.option(
        "--temperature", metavar="T", type=float, default=0.0, show_default=True, help="0 takes the likeliest token."
    ),
    click.option("--top-k", metavar="N", type=int, default=0, help="Keep the N likeliest tokens.  [default: all]"),
    click.option("--top-p", metavar="P", type=float, default=1.0, help="Keep tokens up to mass P.  [default: all]"),
    click.option(
        "--min-p", metavar="P", type=float, default=0.0, help="Keep tokens above P × the likeliest.  [default: all]"
    ),
    click.option("--max-tokens", metavar="N", type=click.IntRange(min=1), help="End an answer after N tokens."),
    click.option("--system", metavar="TEXT", help="System message that the conversation begins with."),
)


def common(command: Callable[..., int]) -> Callable[..., int]:
    """Give a command all options; it is called with an Options first."""
    return _with(_LOADING + _ANSWERING, command)


def loading(command: Callable[..., int]) -> Callable[..., int]:
    """Give a command the options that loading takes; it is called with an Options first."""
    return _with(_LOADING, command)


def _with(options: Sequence[Callable[..., Any]], command: Callable[..., int]) -> Callable[..., int]:
    names = [field.name for field in fields(Options)]

    @functools.wraps(command)
    def with_options(**values: Any) -> int:  # noqa: ANN401 - click's values, which Options gives their types
        return command(Options(**{name: values.pop(name) for name in names if name in values}), **values)

    for option in reversed(options):
        option(with_options)
    return with_options
