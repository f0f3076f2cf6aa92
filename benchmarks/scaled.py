"""`make bench`: the demo pair at the cost of Qwen3-0.6B and 1.7B, with and without its drafter, in turns.

Plain is the same loop and target loaded without a drafter, so that it does not pay for taps either. A ratio compares
tokens per second of the whole answer, prefill left out, medians over the trials.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from measure import Run, answer, geometric_mean, middle
from scale import SIZES, Size, add_options, chosen

from dspark_local import DSparkError, Runtime, SamplingParams, load
from dspark_local.bench import machine
from dspark_local.bench.tables import milliseconds, table

PROMPTS = Path(__file__).with_name("prompts.txt")
GAMMAS = (1, 2, 3, 4, 5, 7)
LOOPS = 0.1  # share of repeated 8-grams from which on a text counts as looping
PLAIN = 0


@dataclass(frozen=True, slots=True)
class Result:
    """The median run of every prompt under every γ; γ 0 is plain."""

    runs: dict[tuple[str, int], Run]

    @property
    def gammas(self) -> list[int]:
        """Those that drafted."""
        return sorted({gamma for _, gamma in self.runs} - {PLAIN})

    @property
    def prompts(self) -> list[str]:
        """In order."""
        return list(dict.fromkeys(prompt for prompt, _ in self.runs))

    @property
    def sound(self) -> list[str]:
        """Prompts whose answers do not loop: only these count."""
        return [p for p in self.prompts if self.runs[p, PLAIN].repeated < LOOPS]

    def ratio(self, prompt: str, gamma: int) -> float:
        """Speed against plain."""
        return self.runs[prompt, gamma].rate / self.runs[prompt, PLAIN].rate

    def mean(self, gamma: int) -> float:
        """Geometric mean of the ratios."""
        return geometric_mean(self.ratio(p, gamma) for p in self.sound)

    @property
    def best(self) -> int:
        """The fixed γ of the highest mean."""
        return max(self.gammas, key=self.mean)

    def forks(self, gamma: int) -> int:
        """Answers that differ from the plain ones, by a near-tie that rounding decided."""
        return sum(self.runs[p, gamma].tokens != self.runs[p, PLAIN].tokens for p in self.prompts)


@dataclass(frozen=True, slots=True)
class Bench:
    """One shape's pair in two contexts: without its drafter and with it."""

    plain: Runtime
    drafted: Runtime
    max_tokens: int

    def run(self, prompts: list[str], gammas: list[int], sampling: SamplingParams, *, trials: int, what: str) -> Result:
        """Every prompt under every γ, `trials` times in turns."""
        runs: dict[tuple[str, int], list[Run]] = {}
        cases = [(prompt, gamma) for prompt in prompts for gamma in (PLAIN, *gammas)]
        began, n = time.perf_counter(), 0
        for _ in range(trials):
            for prompt, gamma in cases:
                runtime = self.drafted if gamma else self.plain
                run = answer(runtime, prompt, sampling, gamma=gamma, max_tokens=self.max_tokens)
                runs.setdefault((prompt, gamma), []).append(run)
                n += 1
                left = (time.perf_counter() - began) / n * (trials * len(cases) - n)
                progress(f"{what}: {n} of {trials * len(cases)} answers, {left:.0f} s left", last=not left)
        return Result({case: middle(found) for case, found in runs.items()})


def progress(line: str, *, last: bool) -> None:
    """On one line of a terminal; in a file, line by line."""
    here = sys.stderr.isatty()
    print(f"\r\x1b[K{line}" if here else line, end="" if here and not last else "\n", file=sys.stderr, flush=True)


def by_gamma(result: Result) -> str:
    """One row for each γ: the mean over prompts."""
    head = ("γ", "speed", "τ", "draft ms", "verify ms", "inject ms", "host ms", "host %", "forks")
    rows = []
    for gamma in (PLAIN, *result.gammas):
        runs = [result.runs[p, gamma] for p in result.sound]
        if not runs:
            return "No answer counts: all of them loop."
        speed, forks = (f"{result.mean(gamma):.2f}x", str(result.forks(gamma))) if gamma else ("1.00x", "")
        rows.append((str(gamma) if gamma else "plain", speed, *_parts(runs), forks))
    return table(head, rows)


def by_prompt(result: Result, gamma: int) -> str:
    """One row for each prompt at one γ."""
    head = (f"prompt, γ = {gamma}", "tokens", "plain tok/s", "speed", "τ", "draft ms", "verify ms", "inject ms",
            "host ms", "host %")  # fmt: skip
    rows = []
    for prompt in result.prompts:
        run, plain = result.runs[prompt, gamma], result.runs[prompt, PLAIN]
        name = prompt if prompt in result.sound else f"{prompt} (loops, not counted)"
        speed = f"{result.ratio(prompt, gamma):.2f}x"
        rows.append((name, str(len(run.tokens)), f"{plain.rate:.1f}", speed, *_parts([run])))
    return table(head, rows)


def ratios(result: Result) -> str:
    """Speed against plain, prompts by γ."""
    rows = [(p, *(f"{result.ratio(p, g):.2f}x" for g in result.gammas)) for p in result.prompts]
    return table(("speed against plain", *(f"γ = {g}" for g in result.gammas)), rows)


def _parts(runs: list[Run]) -> tuple[str, ...]:
    """τ, milliseconds of a round by part, and the host's share of it; means over runs."""
    rounds = sum(run.rounds for run in runs)
    sums = [sum(getattr(run.times, part) for run in runs) for part in ("draft", "verify", "inject")]
    host, seconds = sum(run.host for run in runs), sum(run.seconds for run in runs)
    tau = statistics.mean(run.accepted_length for run in runs)
    return (f"{tau:.2f}", *(milliseconds(s / rounds) for s in (*sums, host)), f"{100 * host / seconds:.1f}")


def bench(size: Size, options: argparse.Namespace, prompts: list[str]) -> str:
    """Measure one shape. Raises what loading raises."""
    pair = chosen(options, size)
    gammas, n = sorted(set(options.gamma)), options.tokens
    assert pair.drafter is not None
    print(f"loading {pair.name}", file=sys.stderr)
    with (
        load(pair.target, drafter=pair.drafter, policy="plain", threads=options.threads) as drafted,
        drafted.plain() as plain,
    ):
        gammas = [gamma for gamma in gammas if gamma <= drafted.info.block_size]
        both = Bench(plain, drafted, n)
        greedy, drawn = SamplingParams(temperature=0), SamplingParams(temperature=1, seed=options.seed)
        Bench(plain, drafted, 8).run(prompts[:1], gammas, greedy, trials=1, what="warming up")
        cold = both.run(prompts, gammas, greedy, trials=options.trials, what=f"{size.name}, T = 0")
        few = [gamma for gamma in gammas if gamma in {1, 3, cold.best}]
        warm = both.run(prompts, few, drawn, trials=1, what=f"{size.name}, T = 1")
    shape = (
        f"{size.n_vocab:,} tokens, {size.n_layer} layers of {size.n_embd} / {size.n_ff}, "
        f"{size.n_head} / {size.n_head_kv} heads; drafter of {size.draft_layers} layers, {size.taps} taps, "
        f"Markov rank {size.rank}."
    )
    best = (
        f"**Best fixed γ: {cold.best}, {cold.mean(cold.best):.2f}x** (geometric mean over {len(cold.sound)} of "
        f"{len(cold.prompts)} prompts), cost-scaled to {size.name}."
        if cold.sound
        else "So no γ is best."
    )
    return "\n\n".join((
        f"## {pair.name}",
        f"{shape} At most {n} tokens an answer, medians of {options.trials} trials, fast mode, T = 0:",
        by_gamma(cold),
        best,
        by_prompt(cold, cold.best),
        ratios(cold),
        f"T = 1, seed {options.seed}, no truncation, one trial:",
        by_gamma(warm),
    ))  # fmt: skip


def main() -> None:
    """Measure, print, and write a Markdown file if asked to."""
    parser = argparse.ArgumentParser(description="Speed with and without the drafter, cost-scaled to real shapes.")
    parser.add_argument("--shape", choices=SIZES, action="append", help="default: all")
    parser.add_argument("--gamma", type=int, nargs="+", default=GAMMAS, help="block sizes (default: %(default)s)")
    parser.add_argument("--tokens", type=int, default=96, help="most tokens of an answer (default: %(default)s)")
    parser.add_argument("--trials", type=int, default=3, help="default: %(default)s")
    parser.add_argument("--prompts", type=Path, default=PROMPTS, help="a file, one question a line")
    parser.add_argument("--seed", type=int, default=1, help="of the run at T = 1 (default: %(default)s)")
    parser.add_argument("--threads", type=int, help="default: physical cores")
    add_options(parser)
    parser.add_argument("--markdown", type=Path, help="write the tables to this file too")
    options = parser.parse_args()
    if not options.prompts.is_file():
        parser.error(f"no such file: {options.prompts}")
    prompts = [line for line in options.prompts.read_text(encoding="utf-8").splitlines() if line.strip()]
    command = "`benchmarks/scaled.py " + " ".join(a for a in sys.argv[1:]) + "`"
    parts = ["\n".join(f"- {line}" for line in [*machine.describe(), f"command: {command}"])]
    print(parts[0], flush=True)
    try:
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
