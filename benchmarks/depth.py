"""Speed by depth of the context: policies against plain decoding behind 1k, 8k and more tokens of text.

The context is filled once for each runtime; the answers that follow reuse it, in turns. The demo pair learned from
texts of a thousand tokens at most, so behind longer ones it talks at random: what is measured is cost, and whether the
policy notices.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from typing import TYPE_CHECKING

from measure import progress
from scale import SIZES, add_options, chosen

from dspark_local import load
from dspark_local.bench import machine
from dspark_local.bench.answers import answer
from dspark_local.bench.figures import geometric_mean, interval
from dspark_local.bench.prompts import Prompt
from dspark_local.bench.tables import table
from dspark_local.cli.counts import standard_texts
from dspark_local.scheduling.policies import named
from dspark_local.scheduling.scheduler import Auto

if TYPE_CHECKING:
    from dspark_local.models.locations import Pair

ROOM = 512  # tokens of context beyond the filling
TEMPERATURES = (0.0, 1.0)


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description="Policies against plain decoding, by depth of the context.")
    parser.add_argument("--shape", choices=SIZES, default="0.6b")
    parser.add_argument("--depths", type=int, nargs="+", default=[1024, 8192], help="default: 1024 8192")
    parser.add_argument("--policies", nargs="+", default=["fixed:3", "auto"], help="default: fixed:3 auto")
    parser.add_argument("--tokens", type=int, default=64, help="tokens of an answer; default: %(default)s")
    parser.add_argument("--trials", type=int, default=5, help="default: %(default)s")
    add_options(parser)
    options = parser.parse_args()
    print("\n".join(f"- {line}" for line in machine.describe()), end="\n\n")
    pair = chosen(options, SIZES[options.shape])
    rows = []
    for depth in options.depths:
        rates = _rates(pair, depth, options.policies, trials=options.trials, max_tokens=options.tokens)
        plain = rates.pop("plain")
        row = [f"{depth}", f"{geometric_mean(plain):.1f}"]
        for found in rates.values():
            ratios = [a / b for a, b in zip(found, plain, strict=True)]
            low, high = interval(ratios)
            row.append(f"{geometric_mean(ratios):.3f} [{low:.3f}, {high:.3f}]")
        rows.append(row)
    print(f"{pair.name}, T = 0 and 1, {options.trials} trials, times plain, 95 % intervals:", end="\n\n")
    print(table(["tokens of context", "plain tok/s", *options.policies], rows))


def _rates(pair: Pair, depth: int, policies: list[str], *, trials: int, max_tokens: int) -> dict[str, list[float]]:
    """Tokens per second of every answer, by policy."""
    rates: dict[str, list[float]] = defaultdict(list)
    with load(pair.target, drafter=pair.drafter, ctx_size=depth + ROOM) as runtime, runtime.plain() as plain:
        auto = runtime.policy
        assert isinstance(auto, Auto)
        text = " ".join(standard_texts())
        text = text[: len(text) * depth // len(runtime.vocab.encode(text, special=False))]
        chosen = {n: auto if n == "auto" else named(n, auto.cost, gamma=auto.gamma) for n in policies}
        for at in range(trials + 1):  # the first fills the caches
            for temperature in TEMPERATURES:
                prompt = Prompt(prompt=text, raw=True, temperature=temperature)
                for name in ("plain", *policies):
                    progress(f"{depth} tokens, trial {at} of {trials}, {name}", last=at == trials)
                    asked = plain if name == "plain" else runtime
                    asked.policy = asked.policy if name == "plain" else chosen[name]
                    few = max_tokens if at else 1
                    rate = answer(asked, prompt, seed=at, max_tokens=few).rate
                    if at:
                        rates[name].append(rate)
    return rates


if __name__ == "__main__":
    main()
