"""Milliseconds that sampling takes on the host in a round, at a large vocabulary: every pick of drafter and target.

A round of width w picks w tokens for the target and w − 1 for the drafter; each drafter's row but the first is
re-based, as if no pick had been the graph's own. `verify` is the target's part; `given` what `draft` takes where the
backend gives the candidates of its rows, in any order, and the samplers need no more than these. The aims at 152k
tokens and width 8: 1.5 ms from logits with a top-k up to 256, 3 ms untruncated, and 0.3 ms given. Beside other work the
fastest round says the most, and `--cpu` counts the seconds of this thread.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter
from gguf.quants import quantize

from dspark_local import SamplingParams
from dspark_local.backend.base import Drafted
from dspark_local.backend.candidates import MOST, Candidates, ordered
from dspark_local.backend.heads import MarkovHead
from dspark_local.bench import machine
from dspark_local.bench.tables import table
from dspark_local.drafters.dspark import DSpark
from dspark_local.formats.gguf import GGUF
from dspark_local.sampling.rule import Sampler
from dspark_local.sequence import Sequence

if TYPE_CHECKING:
    from collections.abc import Callable

RANK = 256
CASES = {
    "greedy": SamplingParams(seed=1),
    "Qwen's: T=0.6, top-k 20, top-p 0.95": SamplingParams(temperature=0.6, top_k=20, top_p=0.95, seed=1),
    "Gemma's: T=1, top-k 64, top-p 0.95": SamplingParams(temperature=1, top_k=64, top_p=0.95, seed=1),
    "Llama's: T=0.6, top-p 0.9": SamplingParams(temperature=0.6, top_p=0.9, seed=1),
    "T=1, top-k 256": SamplingParams(temperature=1, top_k=256, seed=1),
    "T=1, untruncated": SamplingParams(temperature=1, seed=1),
    "T=1, min-p 0.05": SamplingParams(temperature=1, min_p=0.05, seed=1),
    "T=1, penalties, DRY, top-k 40": SamplingParams(
        temperature=1, top_k=40, repeat_penalty=1.1, frequency_penalty=0.1, dry_multiplier=0.8, seed=1
    ),
}


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description="Milliseconds of sampling a round on the host.")
    parser.add_argument("--vocab", type=int, default=151_936, help="default: %(default)s")
    parser.add_argument("--width", type=int, default=8, help="rows that the target verifies; default: %(default)s")
    parser.add_argument("--rounds", type=int, default=200, help="default: %(default)s")
    parser.add_argument("--cpu", action="store_true", help="CPU time in place of the clock's")
    options = parser.parse_args()
    now = time.thread_time if options.cpu else time.perf_counter
    print("\n".join(machine.describe()), end="\n\n")
    rng = np.random.default_rng(1)
    blocks = [_logits(rng, options.width, options.vocab) for _ in range(4)]
    with tempfile.TemporaryDirectory() as folder:
        head = MarkovHead(GGUF.open(_head(rng, Path(folder) / "head.gguf", options.vocab)))
        rows = [[name, *_measure(params, blocks, head, options.rounds, now)] for name, params in CASES.items()]
    what = f"ms a round, V = {options.vocab}, width {options.width}"
    print(table([what, "verify", "draft", "both", "fastest", "given"], rows))


def _measure(
    params: SamplingParams, blocks: list[np.ndarray], head: MarkovHead, rounds: int, now: Callable[[], float]
) -> list[str]:
    times: list[tuple[float, float]] = []
    given: list[float] = []
    drafter = DSpark(_NoModel(), head)  # type: ignore[arg-type]  # its rows are given
    prompt = [t % 1000 for t in range(500)]
    rng = np.random.default_rng(2)
    logits = np.empty_like(blocks[0])
    for at in range(rounds):
        logits[:] = blocks[at % len(blocks)]  # as a decode leaves them: just written
        sequence = Sequence(0, prompt, Sampler.of(params), 99)
        confidences = np.full(len(logits) - 1, 0.9, np.float32)
        began = now()
        drafter._pick(sequence, Drafted(logits[:-1], confidences))  # noqa: SLF001 - the part that is measured
        middle = now()
        for row in logits:
            sequence.walk.pick(row)
        times.append((now() - middle, middle - began))
        if not sequence.sampler.looks_at(MOST):
            continue
        found, sequence = _shuffled(logits[:-1], rng), Sequence(0, prompt, Sampler.of(params), 99)
        began = now()
        ids, theirs = ordered(*found)
        drafter._pick(sequence, Drafted(theirs, confidences, ids=ids))  # noqa: SLF001 - as above
        given.append(now() - began)
    verify, draft = (statistics.median(part) * 1e3 for part in zip(*times, strict=True))
    told = [verify, draft, verify + draft, min(map(sum, times)) * 1e3]
    return [f"{ms:.2f}" for ms in told] + [f"{min(given) * 1e3:.2f}" if given else ""]


def _shuffled(rows: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Candidates of rows as a backend may have them: tokens and logits [n, k], in any order."""
    found = [Candidates.of(row) for row in rows]
    order = rng.permutation(len(found[0].ids))
    return np.array([row.ids[order] for row in found]), np.array([row.logits[order] for row in found])


class _NoModel:
    block_size = 0
    forgetful = False


def _logits(rng: np.random.Generator, n: int, vocab: int) -> np.ndarray:
    """Rows with a spread like a language model's at a hard place: a few likely tokens, a long tail."""
    rows = rng.normal(0, 2.5, (n, vocab)).astype(np.float32)
    for row in rows:
        row[rng.choice(vocab, 300, replace=False)] += np.linspace(14, 4, 300, dtype=np.float32)
    return rows


def _head(rng: np.random.Generator, path: Path, vocab: int) -> Path:
    """A file that has a Markov head, in Q8_0, and nothing else that matters."""
    writer = GGUFWriter(path, "dflash")
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list([str(t) for t in range(vocab)])
    writer.add_mask_token_id(0)
    writer.add_uint32("dflash.block_size", 16)
    writer.add_uint32("dflash.embedding_length", RANK)
    writer.add_uint32("dflash.block_count", 1)
    writer.add_array("dflash.target_layers", [1])
    kind = GGMLQuantizationType.Q8_0
    for name in ("markov_w1.weight", "markov_w2.weight"):
        values = rng.normal(0, 0.2, (vocab, RANK)).astype(np.float32)
        writer.add_tensor(name, quantize(values, kind), raw_dtype=kind)
    values = rng.normal(0, 0.01, (1, 2 * RANK)).astype(np.float32)
    writer.add_tensor("conf_proj.weight", quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


if __name__ == "__main__":
    main()
