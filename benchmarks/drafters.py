"""Drafters that are trained to be compared: the same options for each, and the same greedy answers to judge them by."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dspark_local.bench.figures import geometric_mean, interval
from dspark_local.bench.suites import evaluate
from dspark_local.bench.tables import table
from dspark_local.cli.main import say
from dspark_local.cli.progress import Progress
from dspark_local.loading import FIXED_WIDTH, load
from dspark_local.training.answers import Asking
from dspark_local.training.plan import Plan
from dspark_local.training.prompts import conversations
from dspark_local.training.schedule import Schedule
from dspark_local.training.train import train

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from dspark_local.bench.suites import Task


def add_options(parser: argparse.ArgumentParser, *, steps: int) -> None:
    """How drafters are trained, and where."""
    parser.add_argument("--out", type=Path, required=True, help="folder; given again, what is done is not done anew")
    parser.add_argument("--steps", type=int, default=steps, help="default: %(default)s")
    parser.add_argument("--batch-tokens", type=int, default=3072, help="default: %(default)s")
    parser.add_argument("--anchors", type=int, default=12, help="default: %(default)s")
    parser.add_argument("--max-tokens", type=int, default=200, help="of an answer; default: %(default)s")
    parser.add_argument("--seed", type=int, default=1, help="default: %(default)s")
    parser.add_argument("--threads", type=int, default=1, help="default: %(default)s")


@dataclass(frozen=True, slots=True)
class Trainer:
    """Trains as the options of a script say, each drafter in a folder of its own."""

    options: argparse.Namespace

    def drafter(
        self,
        name: str,
        target: Path,
        prompts: Sequence[Path],
        *,
        limit: int | None = None,
        steps: int | None = None,
        rate: float = 1.0,
        start: Path | None = None,
    ) -> Path:
        """A drafter for `target`, made as `dspark-local train` makes it, unless its file is there."""
        chosen, folder = self.options, self.options.out / name
        file: Path = folder / f"{name}-Q8_0.gguf"
        if file.is_file():
            return file
        say(f"training {name}")
        steps = steps or chosen.steps
        plan = Plan(
            schedule=Schedule(
                steps=steps,
                seed=chosen.seed,
                tokens=chosen.batch_tokens,
                anchors=chosen.anchors,
                rate=rate,
                interval=max(1, steps // 4),
            ),
            asking=Asking(seed=chosen.seed, max_tokens=chosen.max_tokens),
            limit=limit,
            finetune=start,
            threads=chosen.threads,
            file=file,
        )
        with Progress() as progress:
            return train(str(target), prompts, folder, plan, tell=say, progress=progress)

    def judge(self, target: Path, drafter: Path, suites: Sequence[Path]) -> list[Task]:
        """Greedy answers to each suite in whole blocks, at a fixed width: the same text whoever drafts."""
        chosen = self.options
        pair = load(target, drafter=drafter, policy="fixed:1", fixed_width=FIXED_WIDTH, threads=chosen.threads)
        with Progress() as progress, pair as runtime:
            return evaluate(
                runtime,
                {path.stem: conversations(path) for path in suites},
                temperatures=(0.0,),
                max_tokens=chosen.max_tokens,
                speed=False,
                progress=progress,
            )


def compare(before: Sequence[Task], after: Sequence[Task], names: tuple[str, str]) -> str:
    """Accepted length of both by task, and how much longer the second's is, answer by answer."""
    rows = []
    for one, other in zip(before, after, strict=True):
        ratios = [
            a.stats.rounds / b.stats.rounds
            for a, b in zip(one.answers, other.answers, strict=True)
            if not a.loops and not b.loops
        ]
        low, high = interval(ratios)
        gain = f"{geometric_mean(ratios) - 1:+.1%} [{low - 1:+.1%}, {high - 1:+.1%}]"
        whole = f"{other.accepted_length / one.accepted_length - 1:+.1%}"
        counted = f"{len(ratios)} of {len(one.answers)}"
        rows.append((one.name, counted, f"{one.accepted_length:.3f}", f"{other.accepted_length:.3f}", whole, gain))
    by_answer = "by answer, geometric mean [95 % interval]"
    return table(("prompts", "answers counted", *names, "all tokens", by_answer), rows)
