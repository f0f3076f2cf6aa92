"""The questions that the drafter is trained on: `python prompts.py [--out build] [--count N]` writes prompts.jsonl.

The opening questions of the training conversations, phrased anew in every pass over the material; none is about a name
that was held out.
"""

from __future__ import annotations

import argparse
import itertools
import json
from pathlib import Path

from questions import Material


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
    with (options.out / "prompts.jsonl").open("w", encoding="utf-8") as file:
        for question in itertools.islice(asked, options.count):
            file.write(json.dumps({"messages": [{"role": "user", "content": question}]}) + "\n")


if __name__ == "__main__":
    main()
