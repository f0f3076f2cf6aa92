"""How often drafts are accepted above temperature 0, and how often they could be.

Texts of the target's own are drawn at T, then a block is drafted behind every token of them, and held against what
follows, four ways:

- *re-based*: as the engine does it, the chain following its own picks;
- *greedy chain*: the graph's argmax tokens, as llama.cpp drafts;
- *coupling*: what the seed-coupled rule expects of the target's and the drafter's whole distributions;
- *rejection*: what rejection sampling expects of the same.

An expectation is exact for each block along the text: with p(x) the target's probability of the token that followed
and q(x) the drafter's, rejection sampling accepts it with min(1, q(x)/p(x)); the coupled rule with c(x)/p(x), where
c(v) = 1 / Σ_w max(p(w)/p(v), q(w)/q(v)) is the chance that both pick v, over the tokens that draw one by one and the
group of unlikely ones (Daliri, Musco, Suresh 2024). A pick of the group by both counts as a disagreement.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from measure import progress
from scaled import PROMPTS

import dspark_local
from dspark_local.backend.base import Block, Features, Shape, Span
from dspark_local.backend.heads import MarkovHead
from dspark_local.backend.llama import LlamaDraft, LlamaTarget
from dspark_local.backend.model import Model
from dspark_local.bench import machine
from dspark_local.bench.tables import table
from dspark_local.chat import encode_chat
from dspark_local.drafters.dspark import DSpark
from dspark_local.formats.inspection import inspect_files
from dspark_local.models.locations import find
from dspark_local.sampling.draw import SPREAD
from dspark_local.sampling.rule import Sampler
from dspark_local.sequence import Sequence

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from dspark_local.backend.base import Drafted

    Probabilities = NDArray[np.float64]

NAMES = [
    *["os.getenv", "signal.signal", "math.tan", "str.maketrans", "calendar.monthrange", "json.dumps", "re.sub"],
    *["itertools.chain", "heapq.merge", "random.shuffle", "glob.glob", "copy.deepcopy", "subprocess.run", "ast.parse"],
    *["csv.reader", "shutil.copytree", "textwrap.dedent", "html.escape", "bisect.insort", "statistics.median"],
]


@dataclass(slots=True)
class Tally:
    """Blocks drafted behind every token: by position, how many got there, were accepted, and were expected to be."""

    gamma: int
    blocks: int = 0
    reached: NDArray[np.int64] = field(init=False)
    accepted: NDArray[np.int64] = field(init=False)
    expected: NDArray[np.float64] = field(init=False)  # by the coupling, summed over the blocks that got there
    sums: dict[str, float] = field(default_factory=dict)  # accepted drafts, summed over blocks, by way of drafting

    def __post_init__(self) -> None:
        self.reached, self.accepted = np.zeros((2, self.gamma), np.int64)
        self.expected = np.zeros(self.gamma)

    def add(self, way: str, accepted: float) -> None:
        """Count the drafts that a block got accepted."""
        self.sums[way] = self.sums.get(way, 0.0) + accepted

    def length(self, way: str) -> float:
        """Accepted length τ, the target's own token included."""
        return 1 + self.sums[way] / self.blocks


def main() -> None:
    """Measure and print two tables."""
    parser = argparse.ArgumentParser(description="Acceptance above temperature 0 against what can be expected.")
    parser.add_argument("model", nargs="?", default="demo", help="registry name or GGUF path; default: %(default)s")
    parser.add_argument("--drafter", default="auto", help="GGUF path of its drafter")
    parser.add_argument("--temperature", type=float, default=1.0, help="default: %(default)s")
    parser.add_argument("--gamma", type=int, default=7, help="default: %(default)s")
    parser.add_argument("--tokens", type=int, default=64, help="most tokens of a text; default: %(default)s")
    parser.add_argument("--prompts", type=int, default=24, help="texts; default: %(default)s")
    options = parser.parse_args()
    print("\n".join(machine.describe()), end="\n\n")
    try:
        tally = measure(options)
    except dspark_local.DSparkError as error:
        sys.exit(f"error: {error}")
    print(f"{tally.blocks} blocks of {options.gamma}, T = {options.temperature:g}\n")
    print(by_position(tally), end="\n\n")
    print(by_way(tally))


def measure(options: argparse.Namespace) -> Tally:
    """Draw the texts, then draft behind every token of them."""
    questions = [*PROMPTS.read_text(encoding="utf-8").splitlines(), *(f"What does {n} do?" for n in NAMES)]
    prompts = [[{"role": "user", "content": q}] for q in questions[: options.prompts]]
    params = [dspark_local.SamplingParams(temperature=options.temperature, seed=s) for s in range(len(prompts))]
    with dspark_local.load(options.model, drafter="none", ctx_size=1024) as runtime:
        vocab = runtime.vocab
        starts = [encode_chat(vocab, p) for p in prompts]
        texts = [
            list(runtime.chat(p, s, max_tokens=options.tokens).result().tokens)
            for p, s in zip(prompts, params, strict=True)
        ]
    tally = Tally(options.gamma)
    pair = find(options.model, options.drafter)
    files = inspect_files(pair.target, pair.drafter)
    if not (files.draft and files.spec):
        sys.exit("error: this model has no drafter to measure")
    shape = Shape(n_ctx=1024, width=512)
    target = LlamaTarget(Model(files.target.path), shape, layers=files.spec.target_layers)
    draft = LlamaDraft(Model(files.draft.path), target, files.spec, shape)
    bench = Bench(target, draft, MarkovHead(files.draft), tally)
    for n, (start, text, chosen) in enumerate(zip(starts, texts, params, strict=True), 1):
        bench.run(start, text, Sampler.of(chosen))
        progress(f"{n} of {len(texts)} texts", last=n == len(texts))
    draft.close()
    target.close()
    return tally


@dataclass(slots=True)
class Bench:
    """A pair, and what is counted of it."""

    target: LlamaTarget
    draft: LlamaDraft
    head: MarkovHead
    tally: Tally

    def run(self, prompt: list[int], text: list[int], sampler: Sampler) -> None:
        """One text: a block behind its prompt and behind each of its tokens but the last few."""
        tokens, gamma = prompt + text, self.tally.gamma
        self.target.rewind(0, 0)
        self.draft.rewind(0, 0)
        (rows,) = self.target.decode([Span(0, 0, tokens)])
        assert rows.hidden is not None
        logits = rows.logits.copy()
        for start in range(len(prompt) - 1, len(tokens) - gamma):  # of the anchor
            held = 0 if start == len(prompt) - 1 else start - 1
            self.draft.inject([Features(0, held, rows.hidden[held:start])])
            (drafted,) = self.draft.draft([Block(0, start, tokens[start])], gamma)
            self._block(tokens, start, logits[start : start + gamma], drafted, sampler)

    def _block(
        self, tokens: list[int], start: int, logits: NDArray[np.float32], drafted: Drafted, sampler: Sampler
    ) -> None:
        follows = tokens[start + 1 : start + 1 + self.tally.gamma]
        sequence = Sequence(0, tokens[: start + 1], sampler, 99)
        proposal = DSpark(self.draft, self.head)._pick(sequence, drafted)  # noqa: SLF001 - as the engine would
        greedy = drafted.logits.argmax(-1).tolist()
        picks = [sampler.pick(row, start + 1 + k) for k, row in enumerate(logits)]  # the text, but for rounding
        run = _agreeing(proposal.tokens, picks)
        self.tally.blocks += 1
        self.tally.add("re-based", run)
        self.tally.add("greedy chain", _agreeing(greedy, follows))
        coupled = rejected = 1.0
        for k, q in enumerate(self._rebased(drafted, [tokens[start], *follows], sampler.params.temperature)):
            p = _softmax(logits[k] / sampler.params.temperature)
            v = follows[k]
            agreed, total = _coupled(p, q, v)
            coupled *= agreed / p[v]
            rejected *= min(1.0, q[v] / p[v])
            self.tally.add("coupling", coupled)
            self.tally.add("rejection", rejected)
            if k <= run:
                self.tally.reached[k] += 1
                self.tally.accepted[k] += k < run
                self.tally.expected[k] += total

    def _rebased(self, drafted: Drafted, text: list[int], temperature: float) -> Iterator[Probabilities]:
        """The drafter's whole distribution at each row, behind the text's own tokens."""
        chained = text[0]
        for k, row in enumerate(drafted.logits):
            shift = self.head.w1([text[k]])[0] - self.head.w1([chained])[0]
            yield _softmax((row + self.head.w2(np.arange(len(row))) @ shift) / temperature)
            chained = int(np.argmax(row))


def _agreeing(drafted: list[int] | tuple[int, ...], text: list[int]) -> int:
    return next((k for k, (a, b) in enumerate(zip(drafted, text, strict=False)) if a != b), len(drafted))


def _softmax(logits: NDArray[np.floating]) -> Probabilities:
    weights: Probabilities = np.exp(logits.astype(np.float64) - float(logits.max()))
    return weights / weights.sum()


def _coupled(p: Probabilities, q: Probabilities, token: int) -> tuple[float, float]:
    """Chance that both pick `token`, and that both pick the same, by the grouped rule."""
    least = np.exp(-SPREAD)
    heads = [d >= d.max() * least for d in (p, q)]
    either = heads[0] | heads[1]
    alone = np.flatnonzero(either)
    a = np.append(np.where(heads[0], p, 0)[alone], p[~heads[0]].sum())  # the group last
    b = np.append(np.where(heads[1], q, 0)[alone], q[~heads[1]].sum())
    ratio = np.divide(a, b, out=np.full(a.size, np.inf), where=b > 0)
    order = np.argsort(ratio)
    # Σ_w max(a_w/a_v, b_w/b_v): those of a larger ratio count by a, the others by b
    above = np.append(np.cumsum(a[order][::-1])[::-1][1:], 0.0)
    upto = np.cumsum(b[order])
    with np.errstate(divide="ignore", invalid="ignore"):
        chance = np.where((a[order] > 0) & (b[order] > 0), 1 / (above / a[order] + upto / b[order]), 0.0)
    both = np.empty(a.size)
    both[order] = chance
    at = np.searchsorted(alone, token)
    mine = float(both[at]) if at < alone.size and alone[at] == token else 0.0
    return mine, float(both[:-1].sum())


def by_position(tally: Tally) -> str:
    """Acceptance given that all before were accepted."""
    rows = [
        [f"{k + 1}", f"{n}", f"{100 * a / n:.1f}", f"{100 * e / n:.1f}", f"{100 * (a - e) / n:+.1f}"]
        for k, (n, a, e) in enumerate(zip(tally.reached, tally.accepted, tally.expected, strict=True))
        if n
    ]
    return table(["position", "blocks", "accepted %", "coupling expects %", "points apart"], rows)


def by_way(tally: Tally) -> str:
    """Accepted length, and that of the re-based chain against it."""
    mine = tally.length("re-based")
    rows = [[way, f"{tally.length(way):.3f}", f"{mine / tally.length(way):.3f}"] for way in tally.sums]
    return table(["drafts", "accepted length τ", "re-based / this"], rows)


if __name__ == "__main__":
    main()
