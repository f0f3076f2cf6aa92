"""Plain decoding in one runtime against llama-server's, an answer each in turns: milliseconds a token, and stolen time.

    GOMP_SPINCOUNT=1000 python benchmarks/turns.py

Stolen time is what the host of a virtual machine kept from it. Cores that sleep at barriers are given away, and come
back late. peers.py compares more, with two runtimes in a process.
"""

from __future__ import annotations

import argparse
import statistics

import psutil
from gguf import GGMLQuantizationType
from peer_build import programs
from peer_ours import Ours
from peer_question import Question
from peer_server import Load, Server, Setting
from scale import SIZES, Types, scaled_pair

from dspark_local import load
from dspark_local.bench import machine
from dspark_local.bench.prompts import built_in
from dspark_local.bench.tables import table
from dspark_local.loading import default_threads

CTX_SIZE = 512
Q4 = Types(GGMLQuantizationType.Q4_0, GGMLQuantizationType.Q4_0)


def main() -> None:
    """Take turns, and print a table."""
    parser = argparse.ArgumentParser(description="Plain decoding against llama-server's, in turns.")
    parser.add_argument("--shape", choices=SIZES, default="0.6b")
    parser.add_argument("--tokens", type=int, default=40, help="of an answer (default: %(default)s)")
    parser.add_argument("--trials", type=int, default=6, help="default: %(default)s")
    options = parser.parse_args()
    print("\n".join(f"- {line}" for line in machine.describe()), end="\n\n", flush=True)
    threads = default_threads()
    pair = scaled_pair(SIZES[options.shape], types=Q4)
    setting = Load(pair=pair, ctx_size=CTX_SIZE, threads=threads)
    with (
        load(pair.target, drafter="none", ctx_size=CTX_SIZE, threads=threads) as runtime,
        Server(programs().server, setting, Setting()) as server,
    ):
        question = Question.of(runtime.vocab, built_in()[0])
        sides = {"llama-server": server, "ours": Ours("plain", runtime, runtime.policy)}
        made = {name: [] for name in sides}
        for trial in range(options.trials + 1):
            for name, side in sides.items():
                timed = _timed(side, question, options.tokens)
                made[name] += [timed] * (trial > 0)  # the first warms up
    rows = []
    for name, trials in made.items():
        each, stolen = zip(*trials, strict=True)
        shown = f"{statistics.median(each):.1f} ({min(each):.1f} to {max(each):.1f})"
        rows.append([name, shown, f"{statistics.median(stolen):.2f}"])
    print(table([f"{options.tokens} tokens, plain", "ms a token", "stolen s an answer"], rows))


def _timed(side: Server | Ours, question: Question, tokens: int) -> tuple[float, float]:
    """Milliseconds a token, prefill left out, and seconds that were stolen meanwhile."""
    before = _stolen()
    run = side.answer(question, tokens)
    return 1e3 * run.seconds / len(run.tokens), _stolen() - before


def _stolen() -> float:
    return float(getattr(psutil.cpu_times(), "steal", 0.0))


if __name__ == "__main__":
    main()
