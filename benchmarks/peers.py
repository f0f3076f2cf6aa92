"""Against llama.cpp's own programs: the same pair, prompts, threads, context and γ, in turns and never at once.

`single`: one request at a time, llama-server and llama-speculative-simple against ours. `ceiling`: ours against its own
decodes with nothing between them. `crowd`: many requests at once, to llama-server and to ours.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from peer_bench import Bench
from peer_build import programs
from peer_server import Load, Setting
from scale import SIZES, add_options, chosen

from dspark_local import DSparkError, UsageError
from dspark_local.bench import machine
from dspark_local.bench.prompts import built_in, read
from dspark_local.formats.dflash import read_draft_spec
from dspark_local.formats.gguf import GGUF
from dspark_local.loading import default_threads
from dspark_local.models.locations import find
from dspark_local.scheduling.policies import check_name

if TYPE_CHECKING:
    from collections.abc import Iterator

    from peer_build import Programs

PARTS = ("single", "ceiling", "crowd")
AS_IS = "as-is"  # a shape: the pair unscaled, for a quick look


def main() -> None:
    """Build what is missing, and run what was asked for."""
    options = _parser().parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that no server outlives us
    try:
        for policy in options.policy:
            check_name(policy)
        _run(options, programs())
    except DSparkError as error:
        sys.exit(f"error: {error}")


def _run(options: argparse.Namespace, built: Programs) -> None:
    """Measure, print and write. Raises DSparkError."""
    shown = subprocess.list2cmdline(sys.argv[1:])
    lines = [*machine.describe(), f"peers: {built.about}", f"command: `benchmarks/peers.py {shown}`"]
    parts = ["\n".join(f"- {line}" for line in lines)]
    print(parts[0], flush=True)
    for shape in options.shape or SIZES:
        for part in _measure(shape, options, built):
            parts.append(part)
            print(f"\n{part}", flush=True)
    if options.markdown:
        beside = options.markdown.with_suffix(".new")
        beside.write_text("\n\n".join(("# Against llama.cpp", *parts)) + "\n", encoding="utf-8")
        beside.replace(options.markdown)


def _measure(shape: str, options: argparse.Namespace, built: Programs) -> Iterator[str]:
    """Everything about one shape, part by part. Raises DSparkError."""
    pair = find(options.model, options.drafter) if shape == AS_IS else chosen(options, SIZES[shape])
    if pair.drafter is None:
        raise UsageError(f"{pair.name} has no drafter; give one with --drafter")
    block = read_draft_spec(GGUF.open(pair.drafter)).n_drafts
    gammas = sorted({gamma for gamma in options.gamma if 0 < gamma <= block})
    settings = [Setting(), *(Setting(gamma=g) for g in gammas), *(Setting(gamma=block, p_min=p) for p in options.p_min)]
    bench = Bench(
        programs=built,
        load=Load(pair=pair, ctx_size=options.ctx_size, threads=options.threads),
        settings=settings,
        policies=options.policy,
        prompts=read(options.prompts) if options.prompts else built_in(),
        tokens=options.tokens,
        trials=options.trials,
    )
    yield (
        f"## {pair.name}\n\nAt most {options.tokens} tokens an answer, {options.trials} trials in turns, "
        f"{options.threads} threads, {options.ctx_size} tokens of context for each request."
    )
    if "single" in options.part:
        yield bench.single(with_simple=not options.no_simple)
    if "ceiling" in options.part:
        yield bench.ceiling()
    if "crowd" in options.part:
        yield bench.crowd(options.concurrency)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Ours against llama-server and llama-speculative-simple.")
    add = parser.add_argument
    add("--shape", choices=[*SIZES, AS_IS], action="append", help=f"default: all but {AS_IS}, the pair unscaled")
    add("--part", choices=PARTS, nargs="+", default=PARTS, help="default: all")
    add("--gamma", type=int, nargs="+", default=(1, 3, 7), help="block sizes of both sides (default: 1 3 7)")
    add("--p-min", type=float, nargs="+", default=(), help="also whole blocks, cut before a confidence below this")
    add("--policy", nargs="+", default=("auto",), help="policies of ours to set against their best (default: auto)")
    add("--concurrency", type=int, nargs="+", default=(1, 2, 4, 8, 16), help="requests at once (default: 1 2 4 8 16)")
    add("--tokens", type=int, default=64, help="most tokens of an answer (default: %(default)s)")
    add("--trials", type=int, default=3, help="default: %(default)s")
    add("--ctx-size", type=int, default=512, help="tokens of context for each request (default: %(default)s)")
    add("--threads", type=int, default=default_threads(), help="default: physical cores")
    add("--prompts", type=Path, help="one a line, or .jsonl with prompt, kind, temperature (default: those of bench)")
    add("--no-simple", action="store_true", help="leave out llama-speculative-simple, which loads for every answer")
    add_options(parser)
    add("--markdown", type=Path, help="write the tables to this file too")
    return parser


if __name__ == "__main__":
    main()
