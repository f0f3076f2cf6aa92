"""Record what the demo's drafter proposes at every token of many answers, for replay.py to judge policies by.

    python benchmarks/traces.py                # twenty minutes on an idle core; writes build/traces.npz

Answers that go round in circles are left out: there the drafter is right, and knows nothing of it. Acceptance does not
depend on the machine, nor on the shape that the pair is scaled to; only costs do.
"""

from __future__ import annotations

import argparse
import random
import sys
from pathlib import Path

import numpy as np

from dspark_local import load
from dspark_local.bench.prompts import Prompt
from dspark_local.bench.record import record
from dspark_local.scheduling.simulate import Trace

sys.path.insert(0, str(Path(__file__).parents[1] / "recipes" / "demo"))  # scripts, not a package

from questions import Material

TRACES = Path(__file__).parent / "build" / "traces.npz"
TEMPERATURES = (0.0, 0.6, 1.0, 1.5)
HOT = 1.5  # from here on all texts are of one kind: they read alike


def prompts(n: int) -> list[Prompt]:
    """`n` of each kind: names held out of training, names it saw, functions to go on with, copies."""
    material, rng = Material.collect(), random.Random(7)  # noqa: S311 - the same prompts each time
    seen = [rng.choice(name)(rng).question for name in rng.sample(material.train, n)]
    asked = [turn.question for turn in material.held_out_turns(n)]
    functions = [f for f in material.functions if 200 < len(f) < 700]
    rng.shuffle(functions)
    half = [f[: f.index("\n", len(f) // 3)] for f in functions if "\n" in f[len(f) // 3 :]]
    return [
        *(Prompt(prompt=text, kind="prose") for text in asked),
        *(Prompt(prompt=text, kind="known") for text in seen),
        *(Prompt(prompt=f"Complete this function:\n\n{text}", kind="code") for text in half[:n]),
        *(Prompt(prompt=f"{f}\n\n\n{f[: len(f) // 4]}", kind="copy", raw=True) for f in functions[:n]),
    ]


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


def main() -> None:
    """Record, and keep."""
    parser = argparse.ArgumentParser(description="Record acceptance and confidence at every token.")
    parser.add_argument("--prompts", type=int, default=160, help="of each kind and temperature (default: %(default)s)")
    parser.add_argument("--tokens", type=int, default=128, help="most of an answer (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="default: %(default)s")
    options = parser.parse_args()
    asked = [
        prompt.model_copy(update={"temperature": t, "kind": "hot" if t >= HOT else prompt.kind})
        for t in TEMPERATURES
        for prompt in prompts(options.prompts)
    ]
    traces = []
    with load("demo", policy="plain", ctx_size=1024, threads=options.threads) as runtime:
        for i, prompt in enumerate(asked):
            found = record(runtime, prompt, seed=i, max_tokens=options.tokens, looping=False)
            if found is not None:
                traces.append(found)
            print(f"\r{i + 1} of {len(asked)} answers", end="", file=sys.stderr, flush=True)
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
