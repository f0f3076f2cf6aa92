"""What a busy machine costs: tokens per second by GOMP_SPINCOUNT and threads, idle and beside busy programs.

The variable is read once, when libgomp is loaded, so every case runs in a process of its own. A busy program does
nothing but count.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from scale import SIZES, add_options, chosen

from dspark_local.backend.neighbours import SPINS
from dspark_local.bench.tables import table

if TYPE_CHECKING:
    from collections.abc import Iterator

OURS = str(SPINS)
CASES = [(spins, False) for spins in (None, "0", "1000", OURS)]  # None: libgomp's own default
CASES += [(spins, True) for spins in ("1000", OURS)]  # whether threads step aside (backend/neighbours.py)
BUSY = (0, 1, 2)  # other programs
PROMPT = "How do I use os.getenv?"


def main() -> None:
    """Measure every case in a child, in turns, and print a table."""
    parser = argparse.ArgumentParser(description="Tokens per second by GOMP_SPINCOUNT, idle and beside busy programs.")
    parser.add_argument("--shape", choices=SIZES, default="0.6b")
    parser.add_argument("--tokens", type=int, default=32, help="tokens of a trial (default: %(default)s)")
    parser.add_argument("--trials", type=int, default=3, help="default: %(default)s")
    add_options(parser)
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--aside", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        _child(options.child, options.tokens, aside=options.aside)
        return
    from dspark_local.bench import machine  # noqa: PLC0415 - loads llama.cpp, which a child must not do before it has its variable

    pair = chosen(options, SIZES[options.shape])
    rates: dict[tuple[str | None, bool, int], list[float]] = {}
    for trial in range(options.trials):
        for spins, aside in CASES:
            for busy in BUSY:
                threads = "stepping aside" if aside else "all threads"
                print(f"trial {trial + 1}, GOMP_SPINCOUNT={spins}, {threads}, {busy} others", file=sys.stderr)
                with contextlib.ExitStack() as running:
                    for _ in range(busy):
                        running.enter_context(_neighbour())
                    rate = _measure(spins, pair.target, options.tokens, aside=aside)
                rates.setdefault((spins, aside, busy), []).append(rate)
    print("\n".join(f"- {line}" for line in machine.describe()), end="\n\n")
    rows = []
    for spins, aside in CASES:
        medians = [statistics.median(rates[spins, aside, busy]) for busy in BUSY]
        kept = (f"{rate:.1f} ({rate / medians[0]:.2f})" for rate in medians[1:])
        rows.append((spins or "unset", "step aside" if aside else "all", f"{medians[0]:.1f}", *kept))
    print(f"Plain decoding, {pair.name}, tokens per second, medians of {options.trials} trials:", end="\n\n")
    print(table(("GOMP_SPINCOUNT", "threads", "idle", "one busy program", "two"), rows))


def _measure(spins: str | None, target: Path, tokens: int, *, aside: bool) -> float:
    environment = {key: value for key, value in os.environ.items() if key != "GOMP_SPINCOUNT"}
    if spins is not None:
        environment["GOMP_SPINCOUNT"] = spins
    command = [sys.executable, __file__, "--child", str(target), "--tokens", str(tokens)]
    command += ["--aside"] if aside else []
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)  # noqa: S603 - ourselves
    if done.returncode:
        sys.exit(done.stderr)
    return float(done.stdout)


def _child(target: Path, tokens: int, *, aside: bool) -> None:
    import llama_cpp  # noqa: F401, PLC0415 - first: loads libgomp before our default is set, so that "unset" means unset

    from dspark_local import load  # noqa: PLC0415 - after it
    from dspark_local.bench.answers import answer  # noqa: PLC0415 - as above
    from dspark_local.bench.prompts import Prompt  # noqa: PLC0415 - as above
    from dspark_local.loading import default_threads  # noqa: PLC0415 - as above

    with load(target, drafter="none", threads=None if aside else default_threads()) as runtime:
        answer(runtime, Prompt(prompt=PROMPT), seed=1, max_tokens=tokens)
        print(answer(runtime, Prompt(prompt=PROMPT), seed=1, max_tokens=tokens).rate)


@contextlib.contextmanager
def _neighbour() -> Iterator[None]:
    process = multiprocessing.get_context("spawn").Process(target=_count, daemon=True)
    process.start()
    try:
        yield
    finally:
        process.kill()
        process.join()


def _count() -> None:
    n = 0
    while True:
        n += 1


if __name__ == "__main__":
    main()
