"""Record what the demo's drafter proposes at every token of many answers, for replay.py to judge policies by.

    python benchmarks/traces.py                # eleven minutes of one core; writes build/traces.npz

Ctrl-C keeps what there is by then. Answers that go round in circles are left out: there the drafter is right, and knows
nothing of it. Acceptance does not depend on the machine, nor on the shape that the pair is scaled to; only costs do.
"""

from __future__ import annotations

import argparse
import random
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dspark_local import load
from dspark_local.bench.prompts import Prompt
from dspark_local.bench.record import Recording, record
from dspark_local.scheduling.simulate import Trace

sys.path.insert(0, str(Path(__file__).parents[1] / "recipes" / "demo"))  # scripts, not a package

from questions import Material

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dspark_local import Runtime

TRACES = Path(__file__).parent / "build" / "traces.npz"
TEMPERATURES = (0.0, 0.6, 1.0, 1.5)
HOT = 1.5  # from here on all texts are of one kind: they read alike
AT_ONCE, GROUP = 8, 32  # answers: a row of a batch costs half of one alone
MOST = 230  # prompts of a kind: so many names were held out


def prompts(n: int) -> list[Prompt]:
    """`n` of each kind in turn: names held out of training, names it saw, functions to go on with, copies."""
    material, rng = Material.collect(), random.Random(7)  # noqa: S311 - the same prompts each time
    seen = [rng.choice(name)(rng).question for name in rng.sample(material.train, n)]
    asked = [turn.question for turn in material.held_out_turns(n)]
    functions = [f for f in material.functions if 200 < len(f) < 700]
    rng.shuffle(functions)
    half = [f[: f.index("\n", len(f) // 3)] for f in functions if "\n" in f[len(f) // 3 :]]
    kinds = (
        [Prompt(prompt=text, kind="prose") for text in asked],
        [Prompt(prompt=text, kind="known") for text in seen],
        [Prompt(prompt=f"Complete this function:\n\n{text}", kind="code") for text in half],
        [Prompt(prompt=f"{f}\n\n\n{f[: len(f) // 4]}", kind="copy", raw=True) for f in functions],
    )
    return [prompt for some in zip(*kinds, strict=False) for prompt in some][: n * len(kinds)]


def load_traces(path: Path = TRACES) -> list[Trace]:
    """Those that were recorded, in their order."""
    kept = dict(np.load(path))
    starts = np.concatenate([[0], np.cumsum(kept["lengths"])])
    return [
        Trace(kept["accepted"][a:b], kept["confidences"][a:b], str(kind), float(temperature), int(depth))
        for a, b, kind, temperature, depth in zip(
            starts[:-1], starts[1:], kept["kinds"], kept["temperatures"], kept["depths"], strict=True
        )
    ]


def recorded(runtime: Runtime, asked: list[Prompt], *, max_tokens: int, least: int) -> Iterator[Trace]:
    """Traces of answers at every temperature, as many as have `least` rounds; all there are, should they be fewer."""

    def one(prompt: Prompt, seed: int) -> Trace | None:
        return record(runtime, prompt, seed=seed, max_tokens=max_tokens, looping=False)

    rounds = dict.fromkeys(TEMPERATURES, 0)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for at in range(0, len(asked), GROUP):
            for temperature in [t for t in TEMPERATURES if rounds[t] < least]:
                told = [at_temperature(prompt, temperature) for prompt in asked[at : at + GROUP]]
                for found in pool.map(one, told, count(round(1000 * temperature) + at)):
                    if found is not None:
                        rounds[temperature] += len(found)
                        yield found
            progress = ", ".join(f"T = {t}: {n}" for t, n in rounds.items())
            print(f"\r{at} of {len(asked)} prompts; rounds at {progress}", end="", file=sys.stderr, flush=True)


def at_temperature(prompt: Prompt, temperature: float) -> Prompt:
    """Asked so; hot ones are of one kind."""
    kind = "hot" if temperature >= HOT else prompt.kind
    return prompt.model_copy(update={"temperature": temperature, "kind": kind})


def main() -> None:
    """Record, and keep."""
    parser = argparse.ArgumentParser(description="Record acceptance and confidence at every token.")
    parser.add_argument("--rounds", type=int, default=20_000, help="of each temperature (default: %(default)s)")
    parser.add_argument("--tokens", type=int, default=128, help="most of an answer (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="default: %(default)s")
    options = parser.parse_args()
    traces: list[Trace] = []
    with (
        load("demo", policy="plain", ctx_size=1024, slots=AT_ONCE, threads=options.threads) as runtime,
        suppress(KeyboardInterrupt),
    ):
        runtime.policy = Recording(runtime.info.block_size)  # for all that run at once
        traces.extend(recorded(runtime, prompts(MOST), max_tokens=options.tokens, least=options.rounds))
    TRACES.parent.mkdir(exist_ok=True)
    np.savez_compressed(
        TRACES,
        lengths=[len(t) for t in traces],
        accepted=np.concatenate([t.accepted for t in traces]),
        confidences=np.concatenate([t.confidences for t in traces]),
        kinds=[t.kind for t in traces],
        temperatures=[t.temperature for t in traces],
        depths=[t.depth for t in traces],
    )
    print(f"\n{sum(map(len, traces))} rounds of {len(traces)} answers in {TRACES}", file=sys.stderr)


if __name__ == "__main__":
    main()
