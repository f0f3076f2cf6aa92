"""Accepted length on held-out questions, in torch: `python evaluate.py [--out build] [--prompts N] [--show N]`.

Both networks carry their shipped (quantised) weights. The target writes the text alone, and the rounds are replayed
on it: exactly what a lossless engine does with the same picks. Accepted length counts tokens committed per round, the
target's own included. Only answers that end by themselves with under 0.1 repeated 8-grams count.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from blocks import draft_hidden
from export import read_drafter, read_target
from generate import Answer, generate, gumbel
from quantise import q8_0, quantise_target
from questions import Material
from rows import prompt_ids
from tokenizers import Tokenizer
from torch import Tensor

if TYPE_CHECKING:
    from model import Drafter, Target

BATCH = 64


@dataclass(slots=True)
class Tally:
    """Rounds replayed, tokens they committed, and how often slot k was reached and accepted."""

    rounds: int
    tokens: int
    reached: Tensor
    accepted: Tensor

    @property
    def accepted_length(self) -> float:
        return self.tokens / max(1, self.rounds)


@torch.no_grad()
def drafts(drafter: Drafter, target: Target, answer: Answer, *, temperature: float, seed: int) -> tuple[Tensor, Tensor]:
    """(drafted ids, true ids), each `[anchors, γ]`, for every answer token as anchor but the last; −1 past the end.

    At temperature > 0 a slot takes argmax(log Q + noise) with the target's noise, and the chain follows what was taken.
    """
    ids = torch.tensor([answer.prompt + answer.ids])
    size = drafter.draft.block_size
    anchors = torch.arange(len(answer.prompt), ids.shape[1] - 1)[None]
    _, layers = target.model(ids)
    hidden = draft_hidden(drafter, target, ids, layers, anchors)[0]
    positions = anchors[0][:, None] + 1 + torch.arange(size)
    padded = torch.cat((ids[0], torch.full((size,), -1)))
    previous, drafted = ids[0][anchors[0]], []
    for k in range(size):
        logits = target.logits(hidden[:, k]) + drafter.markov(previous)[1]
        if temperature > 0:
            noise = torch.stack([gumbel(seed, int(position), logits.shape[1]) for position in positions[:, k]])
            logits = logits / temperature + noise
        previous = logits.argmax(dim=-1)
        drafted.append(previous)
    return torch.stack(drafted, dim=1), padded[positions]


def replay(drafted: Tensor, true: Tensor, tally: Tally) -> None:
    """Walk one answer round by round and add what happened to `tally`."""
    agreed = (drafted == true).int().cumprod(dim=1)
    at = 0
    while at < len(agreed):
        run = int(agreed[at].sum())
        tally.rounds += 1
        tally.tokens += min(run + 1, len(agreed) - at)
        tally.accepted += agreed[at]
        tally.reached[: min(run + 1, len(tally.reached))] += 1
        at += run + 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "build")
    parser.add_argument("--prompts", type=int, default=200)
    parser.add_argument("--show", type=int, default=4)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    tokenizer = Tokenizer.from_file(str(options.out / "target" / "tokenizer.json"))
    target, drafter = read_target(options.out / "target"), read_drafter(options.out / "draft")
    quantise_target(target)
    with torch.no_grad():
        for parameter in drafter.parameters():
            if parameter.ndim == 2:
                parameter.copy_(q8_0(parameter))
    questions = [turn.question for turn in Material.collect().held_out_turns(options.prompts)]
    seeds = list(range(len(questions)))
    for temperature in (0.0, 0.7, 1.0):
        answers: list[Answer] = []
        for start in range(0, len(questions), BATCH):
            prompts = [prompt_ids(tokenizer, question) for question in questions[start : start + BATCH]]
            answers += generate(target, prompts, temperature=temperature, seeds=seeds[start : start + BATCH])
        kept = [i for i, answer in enumerate(answers) if answer.ended and answer.repeated < 0.1]
        tally = Tally(0, 0, torch.zeros(drafter.draft.block_size), torch.zeros(drafter.draft.block_size))
        for i in kept:
            if len(answers[i].ids) > 1:
                replay(*drafts(drafter, target, answers[i], temperature=temperature, seed=seeds[i]), tally)
        ended = sum(answer.ended for answer in answers)
        print(
            f"T={temperature}: accepted length {tally.accepted_length:.2f} over {tally.rounds} rounds of {len(kept)} "
            f"answers ({ended} of {len(answers)} ended, {sum(a.repeated >= 0.1 for a in answers)} loop)"
        )
        print("  accepted per position:", " ".join(f"{x:.3f}" for x in (tally.accepted / tally.rounds).tolist()))
        print("  given the ones before:", " ".join(f"{x:.3f}" for x in (tally.accepted / tally.reached).tolist()))
        for i in kept[: options.show]:
            print(f"--- {questions[i]}\n{tokenizer.decode(answers[i].ids)}")


if __name__ == "__main__":
    main()
