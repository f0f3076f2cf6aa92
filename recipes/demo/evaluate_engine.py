"""Accepted length on held-out questions, in the real engine: `python evaluate_engine.py TARGET.gguf DRAFT.gguf`.

Runs in the project's own environment, with no torch; the interpreter's library has to be the one that was trained on
(the same Python version), or the split by name hides other questions. Counts as `evaluate.py` does.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from questions import Material

from dspark_local import FinishReason, SamplingParams, load


def repeated(tokens: tuple[int, ...]) -> float:
    """Share of 8-grams that occurred before."""
    grams = [tokens[i : i + 8] for i in range(len(tokens) - 7)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", type=Path)
    parser.add_argument("drafter", type=Path)
    parser.add_argument("--prompts", type=int, default=200)
    parser.add_argument("--gamma", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    turns = Material.collect().held_out_turns(options.prompts)
    with load(
        options.target, drafter=options.drafter, policy=f"fixed:{options.gamma}", ctx_size=2048, threads=options.threads
    ) as runtime:
        for temperature in (0.0, 0.7, 1.0):
            rounds = tokens = kept = ended = 0
            accepted, reached = [0] * options.gamma, [0] * options.gamma
            for seed, turn in enumerate(turns):
                finish = runtime.chat(
                    [{"role": "user", "content": turn.question}],
                    SamplingParams(temperature=temperature, seed=seed),
                    max_tokens=300,
                ).result()
                ended += finish.reason is FinishReason.STOP
                if finish.reason is not FinishReason.STOP or repeated(finish.tokens) >= 0.1:
                    continue
                kept += 1
                rounds += finish.stats.rounds
                tokens += finish.stats.predicted_n
                for k, (good, tried) in enumerate(
                    zip(finish.stats.accepted_at, finish.stats.admitted_at, strict=True)
                ):
                    accepted[k] += good
                    reached[k] += tried
            print(
                f"T={temperature}: accepted length {tokens / max(1, rounds):.2f} over {rounds} rounds of {kept} "
                f"answers ({ended} of {len(turns)} ended)"
            )
            shares = (good / tried if tried else 0.0 for good, tried in zip(accepted, reached, strict=True))
            print("  accepted per position:", " ".join(f"{share:.3f}" for share in shares))


if __name__ == "__main__":
    main()
