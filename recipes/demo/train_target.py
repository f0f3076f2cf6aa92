"""Train the target: `python train_target.py [--out build] [--steps N] [--minutes M] [--resume EPOCH]`.

Cross entropy on the answers; Muon; the last fifth (`--quantised`) sees its weights through Q4_0, straight-through.
`--minutes` ends the schedule by the clock where that comes sooner; `--resume` goes on from the saved weights.
"""

from __future__ import annotations

import argparse
import itertools
import time
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from export import read_target, write_target
from losses import HeadCrossEntropy
from model import Target
from quantise import shipped
from questions import Material
from rows import batches, chat_row, epoch_rows
from tokenizer import train_tokenizer, write_tokenizer
from tokenizers import Tokenizer
from torch import Tensor

from dspark_local.training.optimiser import MasteredOptimiser, rate_at
from dspark_local.training.precision import quicker

if TYPE_CHECKING:
    from collections.abc import Iterator

BATCH_TOKENS = 6144


def loss_of(target: Target, ids: Tensor, learn: Tensor) -> Tensor:
    """Mean cross entropy over the ids to be learned."""
    hidden = target.model(ids)
    wanted = learn[:, 1:]
    head = target.model.embed_tokens.weight
    loss: Tensor = HeadCrossEntropy.apply(  # type: ignore[no-untyped-call]  # torch leaves it untyped
        hidden[:, :-1][wanted], head, ids[:, 1:][wanted]
    )
    return loss


def endless(material: Material, tokenizer: Tokenizer, first: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of one epoch after the other, each phrased anew."""
    for epoch in itertools.count(first):
        texts = [text for text in material.functions if len(text) < 1500][epoch % 12 :: 12]
        rows = epoch_rows(tokenizer, material.conversations(epoch), texts, epoch)
        print(f"epoch {epoch}: {len(rows)} rows, {sum(len(row.ids) for row in rows)} tokens", flush=True)
        yield from batches(rows, BATCH_TOKENS, epoch)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "build")
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--minutes", type=float, default=float("inf"))
    parser.add_argument("--resume", type=int, metavar="EPOCH", help="go on from the saved weights with this epoch")
    parser.add_argument("--quantised", type=float, metavar="SHARE", default=0.2, help="of the steps, at the end; or 0")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(1)
    folder: Path = options.out / "target"
    folder.mkdir(parents=True, exist_ok=True)

    material = Material.collect()
    if options.resume is None:
        conversations = material.conversations(0)
        texts = [text for c in conversations for turn in c for text in (turn.question, turn.answer)]
        tokenizer = train_tokenizer(texts + material.functions)
        write_tokenizer(tokenizer, folder)
    else:
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    unseen = [chat_row(tokenizer, [turn]) for turn in material.held_out_turns(64)]
    unseen_ids, unseen_learn = next(batches([row for row in unseen if len(row.ids) <= 192], 48 * 192, 0))

    target = (Target() if options.resume is None else read_target(folder)).to(quicker("cpu"))
    optimiser = MasteredOptimiser(target, matrix_rate=0.02, other_rate=4e-3)
    data = endless(material, tokenizer, options.resume or 0)
    began, seen, recent = time.perf_counter(), 0, list[float]()
    for step in range(options.steps):
        progress = max(step / options.steps, (time.perf_counter() - began) / 60 / options.minutes)
        last = progress >= 1 or step + 1 == options.steps
        if progress >= 1 - options.quantised:
            optimiser.project = shipped
        ids, learn = next(data)
        loss = loss_of(target, ids, learn)
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        optimiser.step(max(0.0, rate_at(progress)))
        seen += ids.numel()
        recent.append(loss.item())
        if step % 25 == 24:
            took = time.perf_counter() - began
            print(f"{step + 1} loss {sum(recent) / len(recent):.3f} {seen / took:.0f} tok/s {took:.0f} s", flush=True)
            recent.clear()
        if step % 150 == 149 or last:
            with torch.no_grad():
                print(f"    held out {loss_of(target, unseen_ids, unseen_learn):.3f}", flush=True)
            saved = Target()
            saved.load_state_dict(optimiser.masters)
            write_target(saved, folder, folder)
        if last:
            break


if __name__ == "__main__":
    main()
