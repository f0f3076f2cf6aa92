"""How fast a target is read and a drafter learns, and what room that takes, on the CPU or a CUDA device.

Texts are of random tokens, which cost what others do; all are read and learned from once, as `dspark-local train` does
it. Each number of texts has a process of its own, so that its peak of memory is its own: ten times the texts, in the
same `--cache`, should take no more.

    python benchmarks/train_room.py demo --texts 200 2000 --cache 0.03
    python benchmarks/train_room.py MODEL --device cuda --texts 2000 --length 512
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from measure import progress

from dspark_local.bench import machine
from dspark_local.bench.tables import table
from dspark_local.models.locations import find
from dspark_local.training.design import design
from dspark_local.training.lesson import Lesson
from dspark_local.training.plan import GIB, Plan
from dspark_local.training.schedule import Schedule
from dspark_local.training.target import TargetFile
from dspark_local.training.text import Text

_PROMPT = 16  # tokens of a text that nobody learns
MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one run: `tokens` of all texts; tokens of text a second; bytes of memory, of states, of the device at most."""

    tokens: int
    captured: float
    learned: float
    resident: int
    states: int
    device: int


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description="Speed and room of training a drafter: reading states, learning.")
    parser.add_argument("model", nargs="?", default="demo", help="default: %(default)s")
    parser.add_argument("--texts", type=int, nargs="+", default=[200, 2000], help="default: 200 2000")
    parser.add_argument("--length", type=int, default=96, help="tokens of a text; default: %(default)s")
    parser.add_argument("--cache", type=float, default=0.03, metavar="GIB", help="default: %(default)s")
    parser.add_argument("--batch-tokens", type=int, default=3072, help="default: %(default)s")
    parser.add_argument("--anchors", type=int, default=24, help="default: %(default)s")
    parser.add_argument("--dtype", choices=("bf16", "f32"), default="bf16", help="default: %(default)s")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1; default: %(default)s")
    parser.add_argument("--gpu-layers", type=int, default=-1, help="of the target; default: all that fit")
    parser.add_argument("--threads", type=int, default=1, help="default: %(default)s")
    options = parser.parse_args()
    print("\n".join(f"- {line}" for line in machine.describe()), end="\n\n")
    rows = []
    for n in options.texts:
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as alone:
            found = alone.submit(measure, options, n).result()
        rows.append(
            (
                str(n), str(found.tokens), f"{found.captured:.0f}", f"{found.learned:.0f}",
                *(f"{size / MIB:.0f}" for size in (found.resident, found.states, found.device)),
            )
        )  # fmt: skip
    cap = f"states on the disk, of {options.cache * GIB / MIB:.0f} MiB"
    columns = ("texts", "tokens", "read, tokens/s", "learned, tokens/s", "peak memory, MiB", cap, "on the device, MiB")
    print(table(columns, rows))


def measure(options: argparse.Namespace, n: int) -> Figures:
    """Read and learn `n` texts once."""
    import torch  # noqa: PLC0415 - in the process that is measured

    from dspark_local.training.fit import heads, prepare, states  # noqa: PLC0415
    from dspark_local.training.loop import Run, drawn  # noqa: PLC0415
    from dspark_local.training.network import Drafter  # noqa: PLC0415

    schedule = Schedule(steps=1_000_000, tokens=options.batch_tokens, anchors=options.anchors)
    plan = Plan(
        schedule=schedule,
        cache=int(options.cache * GIB),
        kept=options.dtype,
        device=options.device,
        threads=options.threads,
        gpu_layers=options.gpu_layers,
    )
    target = TargetFile.open(find(options.model, "none", lambda _stage, _share: None).target)
    wanted = design(target.gguf)
    lesson = _lesson(n, options.length, wanted.shape.vocab_size)
    cuda = options.device.startswith("cuda")
    prepare(plan)
    with tempfile.TemporaryDirectory() as folder, states(target, lesson, wanted, Path(folder), plan) as cache:
        drafter = Drafter(wanted).to(options.device)
        run = Run(drafter, heads(target, plan), lesson, cache, schedule, Path(folder), identity={}, tell=print)
        seen: set[int] = set()
        reading, learning, learned = 0.0, 0.0, 0
        for step, (shard, batch) in enumerate(drawn(lesson, cache, schedule), 1):
            began = time.perf_counter()
            cache.open(shard)
            read = time.perf_counter()
            run.learn(step, shard, batch)
            if cuda:
                torch.cuda.synchronize()
            reading += read - began
            seen.update(batch.texts)
            if step > 1:  # the first step allocates
                learning += time.perf_counter() - read
                learned += sum(len(lesson.texts[i]) for i in batch.texts)
            progress(f"{len(seen)} of {len(lesson.learned)} texts", last=len(seen) == len(lesson.learned))
            if len(seen) == len(lesson.learned):
                break
        return Figures(
            sum(map(len, lesson.texts)),
            cache.captured / reading,
            learned / max(learning, 1e-9),
            resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10,
            cache.peak,
            torch.cuda.max_memory_allocated() if cuda else 0,
        )


def _lesson(n: int, length: int, vocabulary: int) -> Lesson:
    rng = np.random.default_rng(1)
    lengths = rng.integers(max(_PROMPT + 16, length // 2), length * 3 // 2, n).tolist()
    ids = [rng.integers(0, vocabulary, size).tolist() for size in lengths]
    texts = [Text.said(text[:_PROMPT], text[_PROMPT:], ended=True, temperature=0.0) for text in ids]
    return Lesson(texts, range(1, n), [0])


if __name__ == "__main__":
    main()
