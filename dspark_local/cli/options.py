"""The options that `chat`, `run` and `serve` share: one decorator in, one frozen record out."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dspark_local.chat import Message
from dspark_local.errors import UsageError
from dspark_local.loading import CANDIDATES, FIXED_WIDTH, MAX_SLOTS, load
from dspark_local.models.locations import Kind
from dspark_local.types import SamplingParams

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from dspark_local.runtime import Runtime


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the user chose."""

    drafter: str = "auto"
    no_draft: bool = False
    policy: str = "auto"
    draft_candidates: str = "logits"
    fixed_width: bool = False
    sampling: Mapping[str, Any] = field(default_factory=dict)  # fields of SamplingParams that were given
    max_tokens: int | None = None
    ctx_size: int | None = None
    threads: int | None = None
    gpu_layers: int = -1
    slots: int = 1
    keep_bytes: int | None = None
    rpc: str | None = None
    system: str | None = None

    @property
    def chosen_drafter(self) -> str:
        """The loader's auto, none or a path. Raises UsageError when two options contradict each other."""
        if not self.no_draft:
            return self.drafter
        if self.drafter not in ("auto", "none"):
            raise UsageError("--drafter and --no-draft contradict each other; leave one out")
        return "none"

    @property
    def kind_of_drafter(self) -> str:
        """What of `drafter` holds for other models too: a file or a repository drafts for one target only."""
        return self.drafter if self.drafter in {"auto", *Kind} else "auto"

    def messages(self, prompt: str) -> list[Message]:
        """The conversation that begins with this prompt."""
        system = [Message("system", self.system)] if self.system else []
        return [*system, Message("user", prompt)]

    def open(
        self,
        model: str,
        progress: Callable[[str, float], None] | None = None,
        *,
        max_waiting: int | None = None,
        remeasure: bool = False,
    ) -> Runtime:
        """Load the pair; what the user chose of sampling goes over the model's own preset. Raises as `load` does."""
        runtime = load(
            model,
            drafter=self.chosen_drafter,
            policy=self.policy,
            draft_candidates=self.draft_candidates,
            fixed_width=FIXED_WIDTH if self.fixed_width else None,
            ctx_size=self.ctx_size,
            slots=self.slots,
            max_waiting=max_waiting,
            threads=self.threads,
            gpu_layers=self.gpu_layers,
            keep_bytes=self.keep_bytes,
            rpc=self.rpc,
            remeasure=remeasure,
            progress=progress,
        )
        runtime.preset = replace(runtime.preset, **self.sampling)
        return runtime


_LOADING = (
    click.option(
        "--drafter",
        metavar="DRAFTER",
        default="auto",
        help="auto, dspark, dflash, model, lookup, none, a file, or user/repo of the hub.",
    ),
    click.option(
        "--ctx-size",
        metavar="N",
        type=click.IntRange(min=1),
        help="Tokens of context.  [default: the model's, 8192 at most]",
    ),
    click.option("--threads", metavar="N", type=int, help="CPU threads, at most.  [default: physical cores]"),
    click.option("--gpu-layers", metavar="N", type=int, default=-1, help="Layers on the GPU.  [default: all that fit]"),
    click.option("--rpc", metavar="HOST:PORT,…", help="Spread the target over these rpc-servers (docs/install.md)."),
)
_DRAFTING = (
    click.option("--no-draft", is_flag=True, help="Decode plainly, without a drafter."),
    click.option(
        "--policy",
        metavar="NAME",
        default="auto",
        show_default=True,
        help="How many tokens a round drafts: auto, plain, fixed:N, threshold:P or paper.",
    ),
    click.option(
        "--draft-candidates",
        type=click.Choice(CANDIDATES),
        default="logits",
        show_default=True,
        help="Find a DSpark drafter's likeliest tokens in its logits, or have llama.cpp do it where they are.",
    ),
    click.option(
        "--fixed-width",
        is_flag=True,
        help=f"Decode {FIXED_WIDTH} rows each round, always: the text then depends on seed and target alone.",
    ),
)
_LENGTH = click.option("--max-tokens", metavar="N", type=click.IntRange(min=1), help="End an answer after N tokens.")
_ANSWERING = (
    *_DRAFTING,
    _LENGTH,
    click.option("--system", metavar="TEXT", help="System message that the conversation begins with."),
)
_KEEP = click.option(
    "--keep-bytes",
    metavar="BYTES",
    type=click.IntRange(min=0),
    help="Memory for what was said before.  [default: an eighth of what is free, 4 GiB at most]",
)
_SLOTS = click.option(
    "--slots",
    metavar="N",
    type=click.IntRange(1, MAX_SLOTS),
    default=4,
    show_default=True,
    help="Conversations that are answered at once.",
)


def _bias(_context: click.Context, _option: click.Parameter, given: tuple[str, ...]) -> tuple[tuple[int, float], ...]:
    """TOKEN+BIAS, TOKEN-BIAS or TOKEN-inf, as llama.cpp has it."""
    pairs = []
    for text in given:
        match = re.fullmatch(r"(\d+)([+-](?:inf|\d+\.?\d*|\.\d+))", text.strip())
        if not match:
            raise click.BadParameter(f"{text!r} is not TOKEN+BIAS or TOKEN-BIAS, as in 1234-inf or 42+1.5")
        pairs.append((int(match[1]), float(match[2])))
    return tuple(pairs)


def _file(_context: click.Context, _option: click.Parameter, path: Path | None) -> str | None:
    if path is None:
        return None
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise click.BadParameter(f"{path}: {getattr(error, 'strerror', None) or 'not UTF-8 text'}") from None


_FILE = click.Path(path_type=Path)

# Each bears the name of a field of SamplingParams; what is not given is the model's own, or off.
_SAMPLING = (
    click.option("--seed", metavar="N", type=int, help="The same seed gives the same text.  [default: a drawn one]"),
    click.option("--temperature", metavar="T", type=float, help="0: the likeliest token.  [default: model's, or 0]"),
    click.option("--dynatemp-range", metavar="R", type=float, help="Temperature between T-R and T+R, by entropy."),
    click.option("--dynatemp-exponent", metavar="E", type=float, help="How entropy maps to it.  [default: 1]"),
    click.option("--top-k", metavar="N", type=int, help="Keep the N likeliest tokens.  [default: model's, or all]"),
    click.option("--typical-p", metavar="P", type=float, help="Keep tokens of typical surprise up to mass P."),
    click.option("--top-p", metavar="P", type=float, help="Keep tokens up to mass P.  [default: model's, or all]"),
    click.option("--min-p", metavar="P", type=float, help="Keep tokens above P × the likeliest.  [default: model's]"),
    click.option("--repeat-penalty", metavar="R", type=float, help="Divide logits of tokens that occurred.  [1: off]"),
    click.option("--repeat-last-n", metavar="N", type=int, help="Tokens that they look at; -1: all.  [default: 64]"),
    click.option("--frequency-penalty", metavar="F", type=float, help="Take F per occurrence from a token's logit."),
    click.option("--presence-penalty", metavar="F", type=float, help="Take F from the logit of tokens that occurred."),
    click.option("--dry-multiplier", metavar="M", type=float, help="Penalise going on with a repetition (DRY)."),
    click.option("--dry-base", metavar="B", type=float, help="Growth of DRY's penalty by length.  [default: 1.75]"),
    click.option("--dry-allowed-length", metavar="N", type=int, help="Repetitions that DRY allows.  [default: 2]"),
    click.option("--dry-penalty-last-n", metavar="N", type=int, help="Tokens it looks at; -1: all.  [default: 64]"),
    click.option(
        "--dry-sequence-breaker",
        "dry_sequence_breakers",
        metavar="TEXT",
        multiple=True,
        help='DRY stops at TEXT; repeatable.  [default: newline : " *]',
    ),
    click.option(
        "--logit-bias",
        metavar="TOKEN±BIAS",
        multiple=True,
        callback=_bias,
        help="Add BIAS to a token's logit, -inf bans it; repeatable.",
    ),
    click.option("--grammar", metavar="FILE", type=_FILE, callback=_file, help="The answer fits this GBNF grammar."),
    click.option("--json-schema", metavar="FILE", type=_FILE, callback=_file, help="The answer fits this JSON schema."),
)


def common(command: Callable[..., int]) -> Callable[..., int]:
    """Give a command all options of one answer; it is called with an Options first."""
    return _with(_LOADING + _ANSWERING + _SAMPLING, command)


def conversing(command: Callable[..., int]) -> Callable[..., int]:
    """Give a command all options of conversations on this machine; it is called with an Options first."""
    return _with((*_LOADING, *_ANSWERING, _KEEP, *_SAMPLING), command)


def serving(command: Callable[..., int]) -> Callable[..., int]:
    """Give a command all options that are not one conversation's; it is called with an Options first."""
    return _with((*_LOADING, *_DRAFTING, _LENGTH, _SLOTS, _KEEP, *_SAMPLING), command)


def loading(command: Callable[..., int]) -> Callable[..., int]:
    """Give a command the options that loading takes; it is called with an Options first."""
    return _with(_LOADING, command)


def _with(options: Sequence[Callable[..., Any]], command: Callable[..., int]) -> Callable[..., int]:
    names = [f.name for f in fields(Options)]
    drawn = [f.name for f in fields(SamplingParams)]

    @functools.wraps(command)
    def with_options(**values: Any) -> int:  # noqa: ANN401 - click's values, which Options gives their types
        sampling = {name: value for name in drawn if (value := values.pop(name, None)) not in (None, ())}
        SamplingParams(**sampling)  # a value out of range is told before anything is loaded
        chosen = {name: values.pop(name) for name in names if name in values}
        return command(Options(sampling=sampling, **chosen), **values)

    for option in reversed(options):
        option(with_options)
    return with_options
