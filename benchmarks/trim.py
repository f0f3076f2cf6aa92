"""What a drafter over fewer tokens costs, and how much of a text those tokens are.

Blocks of the scaled drafter as it is and trimmed, drafted in turns behind the same text; seconds beside those of one
token of the target. Whether acceptance suffers the demo pair cannot tell: all its tokens are among the first 4096. So
`--vocabulary`, a GGUF with the tokenizer of a real model (llama.cpp's sources have some in `models/`), says which share
of a text is of the tokens that are kept: by their counts in the standard texts, and by small ids.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scale import SIZES, add_options, chosen, trimmed

from dspark_local.backend.base import Block, Features, Shape, Span
from dspark_local.backend.llama import LlamaDraft, LlamaTarget
from dspark_local.backend.model import Model
from dspark_local.bench import machine
from dspark_local.bench.tables import table
from dspark_local.cli.counts import count_tokens, read_texts, standard_texts
from dspark_local.formats.inspection import inspect_files
from dspark_local.loading import default_threads

if TYPE_CHECKING:
    from collections.abc import Callable

    from dspark_local.models.locations import Pair

GAMMAS = (1, 3, 4, 7)
PROMPT = list(range(1, 30))


def main() -> None:
    """Measure and print tables."""
    parser = argparse.ArgumentParser(description="The cost of drafting from fewer tokens, and their share of a text.")
    parser.add_argument("--shape", choices=SIZES, action="append", help="default: all")
    parser.add_argument("--tokens", type=int, nargs="+", default=[32768, 8192], help="default: 32768 8192")
    parser.add_argument("--trials", type=int, default=15, help="default: %(default)s")
    parser.add_argument("--vocabulary", type=Path, nargs="+", default=[], help="GGUF files with tokenizers")
    parser.add_argument("--text", type=Path, nargs="+", default=[], help="whose tokens are counted; with --vocabulary")
    add_options(parser)
    options = parser.parse_args()
    print("\n".join(f"- {line}" for line in machine.describe()), end="\n\n")
    for shape in options.shape or SIZES:
        print(_costs(chosen(options, SIZES[shape]), options.tokens, options.trials), end="\n\n")
    if options.vocabulary:
        rows = [_shares(path, options.text, options.tokens) for path in options.vocabulary]
        columns = [f"{n} {how}" for n in options.tokens for how in ("by count", "by id")]
        print(table(["share of the text's tokens", *columns], rows))


def _costs(pair: Pair, sizes: list[int], trials: int) -> str:
    drafters = {"whole": pair.drafter} | {f"{n} tokens": trimmed(pair, n).drafter for n in sizes}
    seconds: dict[tuple[str, int], list[float]] = {}
    with ExitStack() as opened:
        model = opened.enter_context(closing(Model(pair.target)))
        calls: dict[tuple[str, int], Callable[[], object]] = {}
        for name, path in drafters.items():
            target, draft = _open(model, pair.target, path, opened)
            for gamma in GAMMAS:
                calls[name, gamma] = lambda draft=draft, gamma=gamma: draft.draft([Block(0, len(PROMPT), 5)], gamma)
            calls["target", 1] = lambda target=target: target.decode([Span(0, len(PROMPT), [5])])
        for at in range(trials):
            print(f"trial {at + 1} of {trials}", file=sys.stderr)
            for key, call in calls.items():
                began = time.perf_counter()
                call()
                seconds.setdefault(key, []).append(time.perf_counter() - began)
                target.rewind(0, len(PROMPT))
    one = statistics.median(seconds["target", 1])
    rows = [
        [name, *(f"{statistics.median(seconds[name, gamma]) / one:.2f}" for gamma in GAMMAS)] for name in drafters
    ]
    print(f"{pair.name}: a block, in target tokens of {one * 1e3:.1f} ms; medians of {trials}:", end="\n\n")
    return table(["drafter", *(f"γ = {gamma}" for gamma in GAMMAS)], rows)


def _open(model: Model, target: Path, draft: Path, opened: ExitStack) -> tuple[LlamaTarget, LlamaDraft]:
    """Both, the target's weights shared, behind the prompt."""
    spec = inspect_files(target, draft).spec
    assert spec
    shape = Shape(n_ctx=512, width=8, threads=default_threads())
    ours = opened.enter_context(closing(LlamaTarget(model.share(), shape, layers=spec.target_layers)))
    drafter = opened.enter_context(closing(LlamaDraft(Model(draft), ours, spec, shape)))
    (rows,) = ours.decode([Span(0, 0, PROMPT, outputs=0)])
    assert rows.hidden is not None
    drafter.inject([Features(0, 0, rows.hidden)])
    return ours, drafter


def _shares(vocabulary: Path, texts: list[Path], sizes: list[int]) -> list[str]:
    text = count_tokens(vocabulary, read_texts(texts))
    likely = np.argsort(-count_tokens(vocabulary, standard_texts()), kind="stable")
    shares = [text[kept].sum() / text.sum() for n in sizes for kept in (likely[:n], slice(n))]
    return [vocabulary.stem, *(f"{share:.3f}" for share in shares)]


if __name__ == "__main__":
    main()
