"""What spinning OpenMP threads cost when the machine is busy: tokens per second by GOMP_SPINCOUNT, idle and busy.

The variable is read once, when libgomp is loaded, so every case runs in a process of its own. "Busy" is one other
process that does nothing but count.
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

from dspark_local.bench.tables import table

if TYPE_CHECKING:
    from collections.abc import Iterator

CASES = (None, "0", "1000", "10000")  # None: libgomp's own default
PROMPT = "How do I use os.getenv?"


def main() -> None:
    """Measure every case in a child, in turns, and print a table."""
    parser = argparse.ArgumentParser(description="Tokens per second by GOMP_SPINCOUNT, idle and with a busy neighbour.")
    parser.add_argument("--shape", choices=SIZES, default="0.6b")
    parser.add_argument("--tokens", type=int, default=32, help="tokens of a trial (default: %(default)s)")
    parser.add_argument("--trials", type=int, default=3, help="default: %(default)s")
    add_options(parser)
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        _child(options.child, options.tokens)
        return
    from dspark_local.bench import machine  # noqa: PLC0415 - loads llama.cpp, which a child must not do before it has its variable

    pair = chosen(options, SIZES[options.shape])
    rates: dict[tuple[str | None, bool], list[float]] = {}
    for trial in range(options.trials):
        for case in CASES:
            for busy in (False, True):
                print(f"trial {trial + 1}, GOMP_SPINCOUNT={case}, {'busy' if busy else 'idle'}", file=sys.stderr)
                with _neighbour() if busy else contextlib.nullcontext():
                    rates.setdefault((case, busy), []).append(_measure(case, pair.target, options.tokens))
    print("\n".join(f"- {line}" for line in machine.describe()), end="\n\n")
    rows = []
    for case in CASES:
        idle, busy_rate = (statistics.median(rates[case, busy]) for busy in (False, True))
        rows.append((case or "unset", f"{idle:.1f}", f"{busy_rate:.1f}", f"{busy_rate / idle:.2f}"))
    print(f"Plain decoding, {pair.name}, medians of {options.trials} trials:", end="\n\n")
    print(table(("GOMP_SPINCOUNT", "idle tok/s", "busy tok/s", "busy / idle"), rows))


def _measure(case: str | None, target: Path, tokens: int) -> float:
    environment = {key: value for key, value in os.environ.items() if key != "GOMP_SPINCOUNT"}
    if case is not None:
        environment["GOMP_SPINCOUNT"] = case
    command = [sys.executable, __file__, "--child", str(target), "--tokens", str(tokens)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)  # noqa: S603 - ourselves
    if done.returncode:
        sys.exit(done.stderr)
    return float(done.stdout)


def _child(target: Path, tokens: int) -> None:
    import llama_cpp  # noqa: F401, PLC0415 - first: loads libgomp before our default is set, so that "unset" means unset

    from dspark_local import load  # noqa: PLC0415 - after it
    from dspark_local.bench.answers import answer  # noqa: PLC0415 - as above
    from dspark_local.bench.prompts import Prompt  # noqa: PLC0415 - as above

    with load(target, drafter="none") as runtime:
        answer(runtime, Prompt(prompt=PROMPT), seed=1, max_tokens=4)
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
