"""What lookup beside the drafter is worth: answers that copy and answers that do not, with and without it.

    python benchmarks/arbitration.py                  # record once (build/arbitration.npz), replay on every cost table
    python benchmarks/arbitration.py --clock 0.6b     # a few of each kind by the clock, cost-scaled to a shape

A replay takes the recorded acceptance of every block of the drafter and the recorded text, in which lookup really
searches; seconds are those of the cost table (replay.py). Answers that loop are left out. The demo's target cannot
copy, so "renamed" texts are made: functions written out again with one name changed, as a model that copies would
write them, and the drafter's acceptance drawn as for copies in scheduling/synthetic.py, better than any that was
recorded. By the clock both runtimes answer in turns, seed by seed; for "renamed" texts the target is made to pick what
is written there, while everything else is as it is: its decodes, what the drafter makes of its hidden states, and what
lookup finds.
"""

from __future__ import annotations

import argparse
import random
import re
import sys
import tempfile
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from replay import COSTS, GAMMA, Q4
from scale import SIZES, scaled_pair

from dspark_local import load
from dspark_local.backend.scripted import PEAK
from dspark_local.bench import machine
from dspark_local.bench.answers import Answer, answer, heard
from dspark_local.bench.figures import geometric_mean
from dspark_local.bench.prompts import Prompt
from dspark_local.bench.record import Recording, trace
from dspark_local.bench.tables import table
from dspark_local.chat import encode_chat
from dspark_local.drafters.lookup import BLOCK, Lookup
from dspark_local.sampling.rule import Sampler
from dspark_local.scheduling.arbitration import Arbiter
from dspark_local.scheduling.cost import CostTable
from dspark_local.scheduling.policy import Fixed, Policy, Request
from dspark_local.scheduling.scheduler import Auto
from dspark_local.scheduling.simulate import Trace
from dspark_local.scheduling.synthetic import MACHINES
from dspark_local.scheduling.synthetic import text as drawn
from dspark_local.sequence import Sequence
from dspark_local.types import Round, RoundTimes, SamplingParams

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dspark_local.backend.base import Floats, Rows, Span, Target, Vocab
    from dspark_local.engine import Engine
    from dspark_local.models.locations import Pair
    from dspark_local.runtime import Runtime

sys.path.insert(0, str(Path(__file__).parents[1] / "recipes" / "demo"))  # scripts, not a package

from questions import Material

RECORDED = COSTS.with_name("arbitration.npz")
REPLAYED, CLOCKED = 72, 4  # prompts of each kind
WIDE = 2 * BLOCK  # γ of a modelled table, so that it reaches as far as lookup's drafts


@dataclass(frozen=True, slots=True, eq=False)
class Recorded:
    """A prompt, its answer, and what the drafter would have made of it."""

    prompt: tuple[int, ...]
    text: tuple[int, ...]
    trace: Trace


def prompts(n: int) -> list[Prompt]:
    """`n` of each kind: functions begun again, one under another name; questions; functions to go on with; hot text."""
    material, rng = Material.collect(), random.Random(7)  # noqa: S311 - the same prompts each time
    functions = [f for f in material.functions if 300 < len(f) < 900]
    rng.shuffle(functions)
    half = [f[: f.index("\n", len(f) // 3)] for f in functions if "\n" in f[len(f) // 3 :]]
    asked = [turn.question for turn in material.held_out_turns(n)]
    return [
        *(Prompt(prompt=f"{f}\n\n\n{f[: len(f) // 4]}", kind="copy", raw=True) for f in functions[:n]),
        *(Prompt(prompt=f"{f}\n\n\n{_edited(f)}", kind="edit", raw=True) for f in functions[n : 2 * n]),
        *(Prompt(prompt=text, kind="prose") for text in asked),
        *(Prompt(prompt=f"Complete this function:\n\n{text}", kind="code") for text in half[:n]),
        *(Prompt(prompt=text, kind="hot", temperature=1.5) for text in asked),
    ]


def _edited(function: str) -> str:
    """Its beginning, under another name."""
    head, _, rest = function.partition("(")
    return f"{head}_again({rest}"[: len(function) // 4]


def recorded(runtime: Runtime, asked: Iterable[Prompt], max_tokens: int) -> list[Recorded]:
    """Each prompt answered, a whole block drafted before every token."""
    runtime.policy, found = Recording(GAMMA), []
    for seed, prompt in enumerate(asked):
        print(f"\r{seed + 1} answers", end="", file=sys.stderr, flush=True)
        said = answer(runtime, prompt, seed=seed, max_tokens=1 + max_tokens + GAMMA)
        known = trace(said.rounds, GAMMA, prompt, prompt_n=said.stats.prompt_n)
        vocab = runtime.vocab
        tokens = vocab.encode(prompt.prompt, special=True) if prompt.raw else encode_chat(vocab, prompt.messages)
        if known and not said.loops:
            first, text = said.finish.tokens[:1], said.finish.tokens[1:]  # no block was drafted for the first
            found.append(Recorded((*tokens, *first), text[: len(known)], known))
    print(file=sys.stderr)
    return found


def renamed(vocab: Vocab, n: int) -> list[Recorded]:
    """`n` functions, each written out again with its longest name changed."""
    functions = [f for f in Material.collect().functions if 300 < len(f) < 900]
    rng, found = np.random.default_rng(3), []
    for function in random.Random(7).sample(functions, n):  # noqa: S311 - the same ones each time
        name = max(re.findall(r"[a-z_]+", function), key=len)
        changed = re.sub(rf"\b{name}\b", f"{name}_2", function)
        prompt = vocab.encode(f"Rename {name} to {name}_2 in this function:\n\n{function}\n", special=False)
        text = vocab.encode(changed, special=False)
        known = drawn("copy", len(text), rng, gamma=GAMMA, depth=len(prompt) - 1)
        found.append(Recorded(tuple(prompt), tuple(text), replace(known, kind="renamed")))
    return found


def rate(texts: Iterable[Recorded], costs: CostTable, policy: Policy, *, looks: bool) -> float:
    """Tokens per second over the texts, one after another; `looks`: lookup makes its offers."""
    lookup, tokens, seconds = Lookup(), 0, 0.0
    for text in texts:
        sequence = Sequence(0, list(text.prompt), Sampler.of(SamplingParams(seed=1)), len(text.text))
        made = rounds = 0
        pending = 1
        while made < len(text.text):
            offer = lookup.offer(sequence) if looks else None
            request = Request(
                0,
                len(text.text) - made - 1,
                depth=text.trace.depth + made,
                rounds=rounds,
                pending=pending,
                temperature=text.trace.temperature,
                offered=offer.confidences if offer else (),
            )
            record = _round(text, made, request, costs, policy, offer.tokens if offer else ())
            policy.observe([record])
            sequence.tokens += text.text[made : made + len(record.tokens)]
            drafted = record.drafted and record.by != Lookup.name
            pending = len(record.tokens) if drafted else pending + len(record.tokens)
            made, rounds, seconds = made + len(record.tokens), rounds + 1, seconds + record.times.total
        tokens += made
        lookup.rewind(0, 0)
    return tokens / seconds


def _round(
    text: Recorded, made: int, request: Request, costs: CostTable, policy: Policy, offered: tuple[int, ...]
) -> Round:
    plan = policy.plan([request])
    if plan.takers:
        draft, said, gamma = offered, request.offered, 0
        rest = text.text[made:]
        pairs = enumerate(zip(draft, rest, strict=False))
        right = next((k for k, (a, b) in pairs if a != b), min(len(draft), len(rest)))
    else:
        gamma = plan.gamma
        draft, said = (0,) * gamma, tuple(text.trace.confidences[made, :gamma].tolist())
        right = int(text.trace.accepted[made])
    (admitted,) = policy.admit([said], [len(draft)]) if draft else (0,)
    admitted = min(admitted, request.limit)
    accepted = min(admitted, right)
    rows = 1 + admitted
    times = RoundTimes(
        inject=costs.inject(request.pending) if gamma else 0.0,
        draft=costs.draft(gamma),
        verify=costs.at(request.depth)(rows),
        host=costs.host(rows + gamma),
    )
    by = Lookup.name if plan.takers else "dspark"
    return Round((0,) * (accepted + 1), draft, admitted, accepted, said, rows, times, by=by)


def replayed(texts: list[Recorded]) -> str:
    """Speed × plain of the drafter alone and of both, by cost table and kind."""
    tables = {name: m.table(gamma=WIDE) for name, m in MACHINES.items()}
    tables |= {f"here, {shape}": t for shape in SIZES if (t := CostTable.load(COSTS, shape))}
    kinds = list(dict.fromkeys(t.trace.kind for t in texts))
    rows, ratios = [], {kind: [] for kind in kinds}
    for name, costs in tables.items():
        cells = []
        for kind in kinds:
            some = [t for t in texts if t.trace.kind == kind]
            plain = rate(some, costs, Fixed(0), looks=False)
            alone = rate(some, costs, Auto(deepcopy(costs), GAMMA), looks=False)
            both = rate(some, costs, Arbiter(deepcopy(costs), GAMMA), looks=True)
            ratios[kind].append(both / alone)
            cells.append(f"{alone / plain:.2f} → {both / plain:.2f} ({both / alone:.2f} ×)")
        rows.append((name, *cells))
    rows.append(("geometric mean", *(f"{geometric_mean(ratios[kind]):.2f} ×" for kind in kinds)))
    return table(("cost table", *kinds), rows)


class Copying:
    """A target that picks a text, whatever it would have said: rows that are no prompt's are spikes at its tokens."""

    def __init__(self, target: Target, said: Recorded) -> None:
        self._target, self._said = target, said

    def __getattr__(self, name: str) -> object:
        return getattr(self._target, name)

    def decode(self, spans: list[Span]) -> list[Rows]:
        """The target's own decode, and other logits."""
        return [
            replace(rows, logits=self._spikes(span)) if span.n_outputs else rows
            for span, rows in zip(spans, self._target.decode(spans), strict=True)
        ]

    def _spikes(self, span: Span) -> Floats:
        first = span.start + 1 + len(span.tokens) - span.n_outputs - len(self._said.prompt)
        picked = [*self._said.text, *self._said.text[-1:] * len(span.tokens)][first : first + span.n_outputs]
        logits = np.zeros((len(picked), self._target.n_vocab), np.float32)
        logits[np.arange(len(picked)), picked] = PEAK
        return logits


def copied(runtime: Runtime, said: Recorded, tokens: int) -> Answer:
    """A text that the target is made to pick. Raises what the runtime raises."""

    def stand_in(engine: Engine) -> None:
        engine.target = Copying(own, said)

    own = runtime._worker.call(lambda engine: engine.target)  # noqa: SLF001 - nobody else changes an engine's target
    runtime._worker.call(stand_in)  # noqa: SLF001 - as above
    try:
        few = min(tokens, len(said.text))
        return heard(runtime.generate(list(said.prompt), SamplingParams(seed=1), max_tokens=few))
    finally:
        runtime._worker.call(lambda engine: setattr(engine, "target", own))  # noqa: SLF001 - as above


def clocked(shape: str, n: int, *, tokens: int, threads: int | None) -> str:
    """Tokens per second of both runtimes, prompt by prompt in turns, `n` of each kind."""
    pair = scaled_pair(SIZES[shape], types=Q4)
    assert pair.drafter
    ratios: dict[str, list[float]] = {}
    looked: dict[str, list[float]] = {}
    options = {"ctx_size": 2048, "threads": threads}
    with (
        tempfile.TemporaryDirectory() as folder,  # where auto finds the drafter by its name
        load(_named(pair, Path(folder)), drafter="auto", **options) as both,
        load(pair.target, drafter=pair.drafter, **options) as alone,
    ):
        asked: list[Prompt | Recorded] = [*renamed(both.vocab, n), *prompts(n)]
        for seed, what in enumerate(asked):
            if isinstance(what, Recorded):
                kind, said = what.trace.kind, [copied(r, what, tokens) for r in (alone, both)]
            else:
                kind, said = what.kind, [answer(r, what, seed=seed, max_tokens=tokens) for r in (alone, both)]
            ratios.setdefault(kind, []).append(said[1].rate / said[0].rate)
            by = said[1].stats.accepted_by.get(Lookup.name, 0)
            looked.setdefault(kind, []).append(by / said[1].stats.predicted_n)
            print(f"\r{seed + 1} of {len(asked)} answers", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    rows = [
        (kind, str(len(r)), f"{np.mean(looked[kind]):.0%}", f"{geometric_mean(r):.2f} × ({min(r):.2f} to {max(r):.2f})")
        for kind, r in ratios.items()
    ]
    return table(("kind", "answers", "tokens looked up", "both / drafter alone (least, most)"), rows)


def _named(pair: Pair, folder: Path) -> Path:
    (folder / "dspark-Scaled-Q4_0.gguf").symlink_to(pair.drafter or "")
    (folder / "Scaled-Q4_0.gguf").symlink_to(pair.target)
    return folder / "Scaled-Q4_0.gguf"


def load_recorded() -> list[Recorded]:
    """Those that were recorded, in their order."""
    kept = dict(np.load(RECORDED))
    found = []
    for i, kind in enumerate(kept["kinds"]):
        prompt, text, accepted, said = (kept[f"{name}_{i}"] for name in ("prompt", "text", "accepted", "confidences"))
        known = Trace(accepted, said, str(kind), float(kept["temperatures"][i]), len(prompt) - 1)
        found.append(Recorded(tuple(prompt.tolist()), tuple(text.tolist()), known))
    return found


def save(texts: list[Recorded]) -> None:
    """Keep them."""
    arrays = {f"prompt_{i}": np.array(t.prompt) for i, t in enumerate(texts)}
    arrays |= {f"text_{i}": np.array(t.text) for i, t in enumerate(texts)}
    arrays |= {f"accepted_{i}": t.trace.accepted for i, t in enumerate(texts)}
    arrays |= {f"confidences_{i}": t.trace.confidences for i, t in enumerate(texts)}
    RECORDED.parent.mkdir(exist_ok=True)
    np.savez_compressed(
        RECORDED, kinds=[t.trace.kind for t in texts], temperatures=[t.trace.temperature for t in texts], **arrays
    )


def main() -> None:
    """Record if need be, replay, print."""
    parser = argparse.ArgumentParser(description="Lookup beside the drafter, against the drafter alone.")
    parser.add_argument("--clock", choices=SIZES, help="by the clock, on the pair cost-scaled to this shape")
    parser.add_argument("--prompts", type=int, help=f"of each kind (default: {REPLAYED}, or {CLOCKED} by the clock)")
    parser.add_argument("--tokens", type=int, default=160, help="most of an answer (default: %(default)s)")
    parser.add_argument("--again", action="store_true", help="record anew")
    parser.add_argument("--threads", type=int)
    options = parser.parse_args()
    print("\n".join(f"- {line}" for line in machine.describe()), end="\n\n")
    if options.clock:
        print(clocked(options.clock, options.prompts or CLOCKED, tokens=options.tokens, threads=options.threads))
        return
    if options.again or not RECORDED.is_file():
        with load("demo", drafter="dspark", policy="plain", ctx_size=1024, threads=options.threads) as runtime:
            n = options.prompts or REPLAYED
            made = renamed(runtime.vocab, n)
            save([*recorded(runtime, prompts(n), options.tokens), *made])
    texts = load_recorded()
    print(f"{sum(len(t.text) for t in texts)} tokens of {len(texts)} texts; × plain, drafter alone → both:\n")
    print(replayed(texts))


if __name__ == "__main__":
    main()
