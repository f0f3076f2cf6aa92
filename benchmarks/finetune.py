r"""What fine-tuning a drafter gains on prompts of a new kind, and what it costs on those of the kind it knew.

A drafter learns from one kind of prompts only (home), and is fine-tuned on another (the domain) with as many of the
old ones mixed in; `--alone`, without any. Each is judged on held-out prompts of both kinds. With the demo's target and
`recipes/demo/prompts.py`, home is what prose answers and the domain what code answers:

    python recipes/demo/prompts.py --out build
    python benchmarks/finetune.py demo --home build/prose.jsonl --domain build/code.jsonl \
        --suite build/held-out-prose.jsonl build/held-out-code.jsonl --out build/finetune
"""

from __future__ import annotations

import argparse
from pathlib import Path

from drafters import Trainer, add_options, compare

from dspark_local.bench import machine
from dspark_local.models.locations import find


def main() -> None:
    """Train, fine-tune, and print a table."""
    parser = argparse.ArgumentParser(description="Fine-tuning a drafter on a new kind of prompts: gain and cost.")
    parser.add_argument("target", help="name or path")
    parser.add_argument("--home", type=Path, required=True, help="prompts that the first drafter learns from")
    parser.add_argument("--domain", type=Path, required=True, help="prompts of another kind")
    parser.add_argument("--suite", type=Path, nargs="+", required=True, help="held-out prompts of both kinds")
    parser.add_argument("--home-limit", type=int, default=3000, help="use the first N prompts; default: %(default)s")
    parser.add_argument("--limit", type=int, default=1000, help="prompts to tune on, a kind; default: %(default)s")
    parser.add_argument("--tune-steps", type=int, default=300, help="default: %(default)s")
    parser.add_argument("--rate", type=float, default=0.5, help="of fine-tuning; default: %(default)s")
    parser.add_argument("--alone", action="store_true", help="without any old prompts")
    add_options(parser, steps=1000)
    options = parser.parse_args()
    print("\n".join(f"- {line}" for line in machine.describe()), end="\n\n")
    target = find(options.target, "none", lambda _stage, _share: None).target
    trainer = Trainer(options)
    home = trainer.drafter("home", target, [options.home], limit=options.home_limit)
    prompts = [_first(options.domain, options.limit, options.out / "domain.jsonl")]
    if not options.alone:
        prompts.append(_first(options.home, options.limit, options.out / "old.jsonl"))
    tuned = trainer.drafter(
        "alone" if options.alone else "mixed",
        target,
        prompts,
        steps=options.tune_steps,
        rate=options.rate,
        start=home,
    )
    before, after = (trainer.judge(target, drafter, options.suite) for drafter in (home, tuned))
    print(f"Accepted length, T = 0:\n\n{compare(before, after, ('before', 'after'))}")


def _first(prompts: Path, count: int, out: Path) -> Path:
    lines = prompts.read_text(encoding="utf-8").splitlines(keepends=True)
    out.write_text("".join(lines[:count]), encoding="utf-8")
    return out


if __name__ == "__main__":
    main()
