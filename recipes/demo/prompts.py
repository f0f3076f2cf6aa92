"""What the drafter is asked: `python prompts.py [--out build] [--count N]` writes prompts.jsonl and held-out.jsonl.

The first are the opening questions of the training conversations, phrased anew in every pass over the material; the
second, one about each name that was held out.
"""

from __future__ import annotations

import argparse
import itertools
import json
from pathlib import Path
from typing import TYPE_CHECKING

from questions import Material

if TYPE_CHECKING:
    from collections.abc import Iterable


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "build")
    parser.add_argument("--count", type=int, default=10000)
    options = parser.parse_args()
    material = Material.collect()
    asked: dict[str, None] = {}
    for epoch in itertools.count(1000):
        asked |= dict.fromkeys(turns[0].question for turns in material.conversations(epoch))
        if len(asked) >= options.count:
            break
    options.out.mkdir(parents=True, exist_ok=True)
    write(options.out / "prompts.jsonl", itertools.islice(asked, options.count))
    write(options.out / "held-out.jsonl", (turn.question for turn in material.held_out_turns(230)))


def write(path: Path, questions: Iterable[str]) -> None:
    with path.open("w", encoding="utf-8") as file:
        for question in questions:
            file.write(json.dumps({"messages": [{"role": "user", "content": question}]}) + "\n")


if __name__ == "__main__":
    main()
