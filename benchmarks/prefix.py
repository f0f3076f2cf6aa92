"""How soon an answer begins: cold, and after a beginning that is in its slot, in another, in memory, or in a file.

Seconds from the request to its first round, and the rows that the target decoded until then. The pair is scaled, or as
it is (`--shape as-is`); texts are greedy.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from measure import progress
from scale import SIZES, add_options, chosen

from dspark_local import DSparkError, SamplingParams, saving
from dspark_local.backend.base import Shape, Span
from dspark_local.backend.heads import MarkovHead
from dspark_local.backend.llama import LlamaDraft, LlamaTarget
from dspark_local.backend.model import Model
from dspark_local.bench import machine
from dspark_local.bench.tables import table
from dspark_local.drafters.dspark import DSpark
from dspark_local.engine import Engine
from dspark_local.formats.inspection import inspect_files
from dspark_local.loading import default_threads
from dspark_local.models.locations import find
from dspark_local.sampling.rule import Sampler
from dspark_local.scheduling.policy import Fixed
from dspark_local.types import FinishReason

if TYPE_CHECKING:
    from collections.abc import Sequence as Many

    from dspark_local.backend.base import Rows
    from dspark_local.models.locations import Pair
    from dspark_local.sequence import Sequence

AS_IS = "as-is"
WAYS = ("cold", "own slot", "another slot", "memory", "file")
GREEDY = Sampler.of(SamplingParams(seed=1))
PARAGRAPH = "How do I use itertools.chain? Show me the signature, and what it is good for. "


class Counting(LlamaTarget):
    """Counts the rows that it decodes."""

    rows = 0

    def decode(self, spans: Many[Span]) -> list[Rows]:
        """As ever."""
        self.rows += sum(len(span.tokens) for span in spans)
        return super().decode(spans)


@dataclass(slots=True)
class Found:
    """Of one way: seconds and rows until the answer began, and tokens per round of the answer."""

    seconds: list[float] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    accepted: list[float] = field(default_factory=list)


def main() -> None:
    """Measure and print."""
    options = _parser().parse_args()
    try:
        pair = find(options.model, options.drafter) if options.shape == AS_IS else chosen(options, SIZES[options.shape])
        found = _measure(pair, options)
    except DSparkError as error:
        sys.exit(f"error: {error}")
    print("\n".join(f"- {line}" for line in machine.describe()))
    print(f"\n{pair.name}: the second turn behind {options.depth} tokens, median of {options.trials}\n")
    cold = found["cold"]
    rows = [
        (
            way,
            f"{statistics.median(f.seconds):.3f}",
            f"{statistics.median(cold.seconds) / statistics.median(f.seconds):.1f}×",
            str(max(f.rows)),
            f"{statistics.mean(f.accepted):.2f}",
        )
        for way, f in found.items()
    ]
    print(table(("beginning", "seconds", "sooner", "rows", "τ"), rows))


def _measure(pair: Pair, options: argparse.Namespace) -> dict[str, Found]:
    files = inspect_files(pair.target, pair.drafter)
    shape = Shape(n_ctx=options.depth + 1024, n_slots=2, width=4, threads=options.threads)
    assert files.spec
    assert files.draft
    target = Counting(Model(pair.target), shape, layers=files.spec.target_layers)
    draft = LlamaDraft(Model(files.draft.path), target, files.spec, shape)
    drafter = DSpark(draft, MarkovHead(files.draft))
    found = {way: Found() for way in WAYS}
    engine = Engine(target, drafter, Fixed(3), is_end=lambda _: False, keep_bytes=8 << 30)
    try:
        text = target.context.model.encode(PARAGRAPH, special=False)
        long = (text * (options.depth // len(text) + 1))[: options.depth]
        first = _ask(engine, long, options.tokens)
        state = engine.snapshot(first.tokens)
        assert state
        for trial in range(options.trials):
            for way in WAYS:
                progress(f"trial {trial + 1} of {options.trials}, {way}", last=way == WAYS[-1])
                engine.abandon()
                engine = Engine(target, drafter, Fixed(3), is_end=lambda _: False, keep_bytes=8 << 30)
                _turn(engine, way, state, [*first.tokens, *text], options.tokens, found[way])
    finally:
        drafter.close()
        target.close()
    return found


def _turn(
    engine: Engine, way: str, state: saving.Snapshot, prompt: list[int], n: int, found: Found
) -> None:
    """The second turn from an empty engine that has been brought to hold its beginning as `way` says."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "state"
        holder = None
        if way == "file":
            saving.write(path, state, "benchmark")
        elif way != "cold":
            engine.adopt(state)
        if way == "own slot":
            _ask(engine, state.tokens, 1)
        elif way == "another slot":
            holder = engine.add([*state.tokens, prompt[-1]], GREEDY, max_tokens=n * 10)
            while not holder.stats.predicted_n:
                engine.step()
        began, before = time.perf_counter(), engine.target.rows
        if way == "file":
            engine.adopt(saving.read(path, "benchmark"))
        sequence = engine.add(prompt, GREEDY, max_tokens=n)
        while not sequence.stats.predicted_n:
            engine.step()
        found.seconds.append(time.perf_counter() - began)
        found.rows.append(engine.target.rows - before)
        if holder:
            engine.finish(holder, FinishReason.CANCELLED)
        while sequence in engine.active:
            engine.step()
        found.accepted.append(sequence.stats.accepted_length)


def _ask(engine: Engine, prompt: list[int], n: int) -> Sequence:
    sequence = engine.add(prompt, GREEDY, max_tokens=n)
    while engine.active:
        engine.step()
    return sequence


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="How soon a second turn begins, by where its beginning is.")
    add = parser.add_argument
    add("--shape", choices=[*SIZES, AS_IS], default="0.6b", help="default: %(default)s")
    add("--depth", type=int, default=4096, help="tokens of the first turn (default: %(default)s)")
    add("--tokens", type=int, default=48, help="of each answer (default: %(default)s)")
    add("--trials", type=int, default=3, help="default: %(default)s")
    add("--threads", type=int, default=default_threads(), help="default: physical cores")
    add_options(parser)
    return parser


if __name__ == "__main__":
    main()
