"""The training itself: batches of blocks against the target's states, judged on held-out answers, resumed after a kill.

Losses, weights and decay are DeepSpec's: 0.1·CE + 0.9·L1 + 1.0·BCE(confidence, 1 − TV), slot k weighted exp(−k/4), the
Markov chain teacher-forced [P §3.3]. Everything drawn at a step is a function of the seed and the step.
"""

from __future__ import annotations

import itertools
import math
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn import functional

from dspark_local.errors import TrainingError
from dspark_local.training.blocks import block_tokens, cut_blocks, draft_hidden, pick_anchors
from dspark_local.training.checkpoints import Position, read_position, write_drafter, write_position
from dspark_local.training.held_out import judge
from dspark_local.training.losses import DraftLoss
from dspark_local.training.optimiser import MasteredOptimiser, rate_at
from dspark_local.training.text import batches

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from torch import Tensor

    from dspark_local.training.heads import TorchHeads
    from dspark_local.training.network import Drafter
    from dspark_local.training.replay import Tally
    from dspark_local.training.schedule import Schedule
    from dspark_local.training.states import StateCache
    from dspark_local.training.text import Batch, Text

ALPHA_CE, ALPHA_L1, ALPHA_CONFIDENCE, DECAY = 0.1, 0.9, 1.0, 4.0
MATRIX_RATE, OTHER_RATE = 0.02, 3e-3  # of Muon and of Adam
_SEEDS = 1_000_003


def loss_of(drafter: Drafter, heads: TorchHeads, batch: Batch, states: Any, anchors: Tensor) -> Tensor:  # noqa: ANN401 - States, whose import torch needs not
    """The loss of one batch."""
    ids, learn = heads.tokens(batch.ids), heads.flags(batch.learn)
    taps, final = heads.tensor(states.taps), heads.tensor(states.final)
    design = drafter.design
    blocks = cut_blocks(ids, learn, anchors, design.block_size)
    tokens = block_tokens(ids, anchors, size=design.block_size, mask=design.mask_token_id)
    hidden = draft_hidden(drafter, heads.embed(tokens), taps, anchors)
    valid = blocks.valid
    slots = torch.arange(design.block_size, device=ids.device).expand_as(valid)[valid]
    row = torch.arange(len(ids), device=ids.device)[:, None, None].expand_as(valid)[valid]
    weights = torch.exp(-slots / DECAY)
    weights = weights / weights.sum()
    rows, w1 = hidden[valid], drafter.markov_head.markov_w1(blocks.previous[valid])
    distribution, accepted = DraftLoss.apply(  # type: ignore[no-untyped-call]  # torch leaves it untyped
        rows, w1, drafter.markov_head.markov_w2.weight, heads.head, final[row, blocks.sources[valid]],
        blocks.labels[valid], weights, ALPHA_CE, ALPHA_L1, heads.scale, heads.softcap,
    )  # fmt: skip
    confidence = functional.binary_cross_entropy_with_logits(
        drafter.confidence(rows, w1).float(), accepted.clamp(0, 1), weights, reduction="sum"
    )
    loss: Tensor = distribution + ALPHA_CONFIDENCE * confidence
    return loss


def fit(
    drafter: Drafter,
    heads: TorchHeads,
    cache: StateCache,
    texts: Sequence[Text],
    learned: Sequence[int],
    judged: Sequence[int],
    schedule: Schedule,
    folder: Path,
    *,
    dtype: torch.dtype,
    identity: dict[str, Any],
    tell: Callable[[str], None],
    progress: Callable[[str, float], None],
) -> Position:
    """Train until the steps are done or nothing gets better; the best drafter is in `folder/draft`.

    Raises TrainingError when the loss is no number, or the disk is full.
    """
    optimiser = MasteredOptimiser(
        drafter, matrix_rate=MATRIX_RATE * schedule.rate, other_rate=OTHER_RATE * schedule.rate
    )  # its masters are the drafter's weights before they are rounded to `dtype`
    drafter.to(dtype)
    at = Position()
    resumed = read_position(folder / "resume.safetensors", identity)
    if resumed:
        state, at = resumed
        optimiser.restore(state, at.step)
        tell(f"going on from step {at.step}")
    began, recent = time.process_time() - at.cpu_seconds, list[float]()

    def judged_at(step: int) -> Position:
        found = judge(drafter, heads, cache, texts, judged)
        best, best_step = at.best, at.best_step
        if found.accepted_length >= best:  # of two as good, the one that learned longer
            best, best_step = found.accepted_length, step
            write_drafter(folder / "draft", optimiser.masters, drafter.design)
        now = Position(step, best, best_step, time.process_time() - began)
        tell(_line(now, schedule.steps, recent, found))
        recent.clear()
        write_position(folder / "resume.safetensors", optimiser.state(), now, identity)
        return now

    if not resumed:
        at = judged_at(0)
    drawn = itertools.islice(_drawn(cache, texts, learned, schedule), at.step, schedule.steps)
    for step, (shard, batch) in enumerate(drawn, at.step + 1):
        generator = torch.Generator().manual_seed(schedule.seed * _SEEDS + step)
        anchors = pick_anchors(heads.flags(batch.learn), schedule.anchors, generator)
        loss = loss_of(drafter, heads, batch, cache.open(shard).states(batch), anchors)
        value = loss.item()
        if not math.isfinite(value):
            raise TrainingError(
                f"the loss is no number any more at step {step}; start again with a lower --rate, in another --out"
            )
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        optimiser.step(max(0.0, rate_at((step - 1) / schedule.steps)))
        recent.append(value)
        progress("training", step / schedule.steps)
        if step % schedule.interval and step != schedule.steps:
            continue
        at = judged_at(step)
        if step - at.best_step >= schedule.patience * schedule.interval:
            tell(f"no better since step {at.best_step}, so this is the end")
            break
    return at


def _drawn(
    cache: StateCache, texts: Sequence[Text], learned: Sequence[int], schedule: Schedule
) -> Iterator[tuple[list[int], Batch]]:
    """Batches, and the shard that each lies in, for ever; nothing is read before it is used."""
    shards = cache.shards(learned)
    for epoch in itertools.count():
        for n in np.random.default_rng((schedule.seed, epoch)).permutation(len(shards)).tolist():
            seed = (schedule.seed, epoch, n)
            for batch in batches(texts, shards[n], tokens=schedule.tokens, seed=seed):
                yield shards[n], batch


def _line(at: Position, steps: int, losses: Sequence[float], found: Tally) -> str:
    loss = f"loss {sum(losses) / len(losses):.3f}, " if losses else ""
    shares = " ".join(f"{share:.2f}" for share in found.shares)
    return (
        f"step {at.step} of {steps}: {loss}held-out accepted length {found.accepted_length:.2f}, "
        f"by position {shares}, {at.cpu_seconds / 60:.1f} minutes of CPU"
    )
