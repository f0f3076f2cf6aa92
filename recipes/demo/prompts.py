"""What the drafter is asked: `python prompts.py [--out build] [--count N]` writes prompts.jsonl and held-out.jsonl.

The first are the opening questions of the training conversations, phrased anew in every pass over the material; the
second, one about each name that was held out. The same is written with the questions that prose answers and those that
code answers apart (prose.jsonl, code.jsonl, held-out-prose.jsonl, held-out-code.jsonl): two domains of one target.
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
    prose: dict[str, None] = {}
    code: dict[str, None] = {}
    for epoch in itertools.count(1000):
        conversations = material.conversations(epoch)
        asked |= dict.fromkeys(turns[0].question for turns in conversations)
        for turn in itertools.chain.from_iterable(conversations):
            (code if turn.is_code else prose)[turn.question] = None
        if len(asked) >= options.count:
            break
    options.out.mkdir(parents=True, exist_ok=True)
    write(options.out / "prompts.jsonl", itertools.islice(asked, options.count))
    write(options.out / "prose.jsonl", itertools.islice(prose, options.count))
    write(options.out / "code.jsonl", itertools.islice(code, options.count))
    write(options.out / "held-out.jsonl", (turn.question for turn in material.held_out_turns(230)))
    hidden = [turn for turn in material.everything_held_out() if turn.question not in prose | code]
    write(options.out / "held-out-prose.jsonl", (turn.question for turn in hidden if not turn.is_code))
    write(options.out / "held-out-code.jsonl", (turn.question for turn in hidden if turn.is_code))


def write(path: Path, questions: Iterable[str]) -> None:
    with path.open("w", encoding="utf-8") as file:
        for question in dict.fromkeys(questions):
            file.write(json.dumps({"messages": [{"role": "user", "content": question}]}) + "\n")


if __name__ == "__main__":
    main()
