"""Train the drafter against the quantised target: `python train_drafter.py [--out build] [--steps N]`.

Losses, weights and decay are DeepSpec's: 0.1·CE + 0.9·L1 + 1.0·BCE(confidence, 1 − TV), slot k weighted exp(−k/4), the
Markov chain teacher-forced. The text is mostly the target's own, two thirds of it greedy and one third sampled.
`--resume` goes on from the saved weights with new text.
"""

from __future__ import annotations

import argparse
import itertools
import random
import time
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from blocks import cut_blocks, draft_hidden, pick_anchors
from export import read_drafter, read_target, write_drafter
from generate import generate
from losses import DraftLoss
from model import Drafter, DraftShape, Target
from optimiser import MasteredOptimiser, rate_at
from quantise import quantise_target
from questions import Material
from rows import Row, batches, epoch_rows, prompt_ids
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Iterator

BATCH_TOKENS = 3072
ANCHORS = 24
ALPHA_CE, ALPHA_L1, ALPHA_CONFIDENCE, DECAY = 0.1, 0.9, 1.0, 4.0
GENERATION_BATCH, LIMIT = 128, 200


def loss_of(drafter: Drafter, target: Target, ids: Tensor, learn: Tensor) -> tuple[Tensor, Tensor]:
    """The loss of one batch, and the mean acceptance probability of each slot `[γ]`."""
    with torch.no_grad():
        target_hidden, layers = target.model(ids)
    blocks = cut_blocks(ids, learn, pick_anchors(learn, min(ANCHORS, ids.shape[1])), drafter.draft.block_size)
    hidden = draft_hidden(drafter, target, ids, layers, blocks.anchors)
    valid = blocks.valid
    slots = torch.arange(drafter.draft.block_size).expand_as(valid)[valid]
    row = torch.arange(len(ids))[:, None, None].expand_as(valid)[valid]
    weights = torch.exp(-slots / DECAY)
    weights = weights / weights.sum()
    rows, w1 = hidden[valid], drafter.markov_head.markov_w1(blocks.previous[valid])
    distribution, accepted = DraftLoss.apply(  # type: ignore[no-untyped-call]  # torch leaves it untyped
        rows, w1, drafter.markov_head.markov_w2.weight, target.model.embed_tokens.weight,
        target_hidden[row, blocks.sources[valid]], blocks.labels[valid], weights, ALPHA_CE, ALPHA_L1,
    )
    confidence = functional.binary_cross_entropy_with_logits(
        drafter.confidence(rows, w1).float(), accepted.clamp(0, 1), weights, reduction="sum"
    )
    rates = torch.zeros(drafter.draft.block_size).index_add_(0, slots, accepted)
    counts = torch.zeros(drafter.draft.block_size).index_add_(0, slots, torch.ones_like(accepted))
    return distribution + ALPHA_CONFIDENCE * confidence, rates / counts.clamp(min=1)


def own_text(target: Target, tokenizer: Tokenizer, material: Material, count: int, seed: int) -> list[Row]:
    """`count` training questions answered by the target: two thirds greedily, one third at temperature 1."""
    rng = random.Random(seed)
    questions = [turns[0].question for turns in material.conversations(1000 + seed)][:count]
    prompts = sorted((prompt_ids(tokenizer, question) for question in questions), key=len)
    groups = [prompts[i : i + GENERATION_BATCH] for i in range(0, len(prompts), GENERATION_BATCH)]
    rng.shuffle(groups)
    rows: list[Row] = []
    began = time.perf_counter()
    for index, group in enumerate(groups):
        rows += [
            Row(answer.prompt + answer.ids, [False] * len(answer.prompt) + [True] * len(answer.ids))
            for answer in generate(target, group, temperature=float(index % 3 == 2), limit=LIMIT)
            if answer.ended and answer.repeated < 0.1
        ]
        print(f"answered {GENERATION_BATCH * (index + 1)} of {count}", flush=True)
    took = time.perf_counter() - began
    print(f"{len(rows)} answers of {count}, {sum(sum(r.learn) for r in rows)} tokens, {took:.0f} s", flush=True)
    return [row for row in rows if sum(row.learn) > 8]


def endless(own: list[Row], tokenizer: Tokenizer, material: Material) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches: the target's own text over and over, each time with a sixth as much of the library's."""
    for epoch in itertools.count():
        library = epoch_rows(tokenizer, material.conversations(epoch), [], epoch)
        mixed = own + [row for row in library if sum(row.learn) > 8][: len(own) // 6]
        yield from batches(mixed, BATCH_TOKENS, epoch)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "build")
    parser.add_argument("--steps", type=int, default=2500)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="of training; generation comes before")
    parser.add_argument("--answers", type=int, default=8000)
    parser.add_argument("--rate", type=float, default=1.0, help="both learning rates times this")
    parser.add_argument("--resume", type=int, metavar="SEED", help="go on from the saved weights with this text")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(2)
    folder: Path = options.out / "draft"
    tokenizer = Tokenizer.from_file(str(options.out / "target" / "tokenizer.json"))
    target = read_target(options.out / "target").requires_grad_(False)
    quantise_target(target)
    material = Material.collect()
    own = own_text(target, tokenizer, material, options.answers, options.resume or 0)
    target.bfloat16()

    drafter = (Drafter(target.shape, DraftShape()) if options.resume is None else read_drafter(folder)).bfloat16()
    optimiser = MasteredOptimiser(drafter, matrix_rate=0.02 * options.rate, other_rate=3e-3 * options.rate)
    data = endless(own, tokenizer, material)
    began, recent, rates = time.perf_counter(), list[float](), list[Tensor]()
    for step in range(options.steps):
        progress = max(step / options.steps, (time.perf_counter() - began) / 60 / options.minutes)
        last = progress >= 1 or step + 1 == options.steps
        loss, accepted = loss_of(drafter, target, *next(data))
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        optimiser.step(max(0.0, rate_at(progress)))
        recent.append(loss.item())
        rates.append(accepted)
        if step % 50 == 49:
            took, mean = time.perf_counter() - began, torch.stack(rates).mean(dim=0)
            tau = 1 + mean.cumprod(dim=0).sum().item()
            each = " ".join(f"{rate:.2f}" for rate in mean.tolist())
            print(f"{step + 1} loss {sum(recent) / 50:.3f} accepted {each} tau {tau:.2f} {took:.0f} s", flush=True)
            recent.clear()
            rates.clear()
        if step % 250 == 249 or last:
            saved = Drafter(drafter.shape, drafter.draft)
            saved.load_state_dict(optimiser.masters)
            write_drafter(saved, options.out / "target", folder)
        if last:
            break


if __name__ == "__main__":
    main()
