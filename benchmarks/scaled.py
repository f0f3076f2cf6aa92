"""`make bench`: the demo pair at the cost of Qwen3-0.6B and 1.7B, policy against policy, in turns.

Plain is the same loop over the same weights in a context without taps. A ratio compares tokens per second of the whole
answer, prefill left out.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from scale import SIZES, Size, add_options, chosen

from dspark_local import DSparkError, load
from dspark_local.bench import machine, report
from dspark_local.bench.prompts import Prompt, read
from dspark_local.bench.trials import run
from dspark_local.cli.progress import Progress

PROMPTS = Path(__file__).with_name("prompts.txt")
POLICIES = ("fixed:1", "fixed:3", "fixed:4", "fixed:7", "auto")
HOT = ("fixed:1", "fixed:3", "auto")


def bench(size: Size, options: argparse.Namespace, prompts: list[Prompt]) -> str:
    """Measure one shape. Raises what loading raises."""
    pair = chosen(options, size)
    assert pair.drafter is not None
    few = {"max_tokens": options.tokens, "seed": options.seed}
    with (
        Progress() as progress,
        load(pair.target, drafter=pair.drafter, ctx_size=2048, threads=options.threads, progress=progress) as runtime,
    ):
        cold = run(runtime, prompts, options.policies, trials=options.trials, progress=progress, **few)
        hot = [prompt.model_copy(update={"temperature": 1.0}) for prompt in prompts]
        warm = run(runtime, hot, [p for p in options.policies if p in HOT], trials=1, progress=progress, **few)
    shape = (
        f"{size.n_vocab:,} tokens, {size.n_layer} layers of {size.n_embd} / {size.n_ff}, "
        f"{size.n_head} / {size.n_head_kv} heads; drafter of {size.draft_layers} layers, {size.taps} taps, "
        f"Markov rank {size.rank}."
    )
    return "\n\n".join((
        f"## {pair.name}",
        f"{shape} At most {options.tokens} tokens an answer, {options.trials} trials, fast mode, T = 0:",
        report.markdown(cold),
        report.sentence(cold),
        f"### T = 1, seed {options.seed}, no truncation, one trial",
        report.markdown(warm),
    ))  # fmt: skip


def main() -> None:
    """Measure, print, and write a Markdown file if asked to."""
    parser = argparse.ArgumentParser(description="Speed with and without the drafter, cost-scaled to real shapes.")
    parser.add_argument("--shape", choices=SIZES, action="append", help="default: all")
    parser.add_argument("--policies", nargs="+", default=POLICIES, help="default: %(default)s")
    parser.add_argument("--tokens", type=int, default=96, help="most tokens of an answer (default: %(default)s)")
    parser.add_argument("--trials", type=int, default=3, help="default: %(default)s")
    parser.add_argument("--prompts", type=Path, default=PROMPTS, help="a file, one question a line")
    parser.add_argument("--seed", type=int, default=1, help="of the run at T = 1 (default: %(default)s)")
    parser.add_argument("--threads", type=int, help="default: physical cores")
    add_options(parser)
    parser.add_argument("--markdown", type=Path, help="write the tables to this file too")
    options = parser.parse_args()
    command = "`benchmarks/scaled.py " + " ".join(sys.argv[1:]) + "`"
    parts = ["\n".join(f"- {line}" for line in [*machine.describe(), f"command: {command}"])]
    print(parts[0], flush=True)
    try:
        prompts = [p if p.kind != "prompt" else p.model_copy(update={"kind": p.prompt}) for p in read(options.prompts)]
        for shape in options.shape or SIZES:
            parts.append(bench(SIZES[shape], options, prompts))
            print(f"\n{parts[-1]}", flush=True)
    except DSparkError as error:
        sys.exit(f"error: {error}")
    if options.markdown:
        beside = options.markdown.with_suffix(".new")
        beside.write_text("\n\n".join(("# Results", *parts)) + "\n", encoding="utf-8")
        beside.replace(options.markdown)


if __name__ == "__main__":
    main()
