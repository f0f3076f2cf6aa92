"""Whether a drafter for a quantised target should learn from that file, or from the target in full precision.

A checkpoint is converted to F16 and to Q4_0. Each file answers the same prompts and gives its states, and a drafter is
trained on them, with the same options and seed. Both drafters then run beside the Q4_0 file. With `--start`, a drafter
that got no better by its own judgement is the start itself.

`recipes/demo` makes a checkpoint whose weights were never quantised:

    python recipes/demo/unpack.py --out build
    python recipes/demo/train_target.py --out build --resume 3 --steps 75 --quantised 0
    python recipes/demo/prompts.py --out build
"""

from __future__ import annotations

import argparse
from pathlib import Path

from drafters import Trainer, add_options, compare

from dspark_local.bench import machine
from dspark_local.cli.main import say
from dspark_local.convert import convert_target


def main() -> None:
    """Train two, and print a table."""
    parser = argparse.ArgumentParser(description="Drafters learned from the F16 and from the Q4_0 file of a target.")
    parser.add_argument("checkpoint", type=Path, help="folder of a target in float")
    parser.add_argument("--prompts", type=Path, nargs="+", required=True)
    parser.add_argument("--suite", type=Path, nargs="+", required=True, help="held-out prompts")
    parser.add_argument("--limit", type=int, help="use the first N prompts; default: all")
    parser.add_argument("--quantised", default="Q4_0", help="default: %(default)s")
    parser.add_argument("--start", type=Path, help="fine-tune this drafter, in place of training from nothing")
    parser.add_argument("--rate", type=float, default=1.0, help="learning rates times this; default: %(default)s")
    add_options(parser, steps=1500)
    options = parser.parse_args()
    print("\n".join(f"- {line}" for line in machine.describe()), end="\n\n")
    trainer = Trainer(options)
    targets = [_converted(options.checkpoint, options.out, kind) for kind in ("F16", options.quantised)]
    beside = targets[1]
    tasks = []
    for target in targets:
        name = f"from-{target.stem}"
        drafter = trainer.drafter(
            name, target, options.prompts, limit=options.limit, rate=options.rate, start=options.start
        )
        tasks.append(trainer.judge(beside, drafter, options.suite))
    print(f"Accepted length beside {beside.name}, T = 0, by the file that the drafter learned from:\n")
    print(compare(tasks[0], tasks[1], ("F16", options.quantised)))


def _converted(checkpoint: Path, out: Path, kind: str) -> Path:
    out.mkdir(parents=True, exist_ok=True)
    file = out / f"target-{kind}.gguf"
    if not file.is_file():
        say(f"converting to {kind}")
        convert_target(checkpoint, file, type=kind)
    return file


if __name__ == "__main__":
    main()
