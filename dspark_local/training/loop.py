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
    from dspark_local.training.lesson import Lesson
    from dspark_local.training.network import Drafter
    from dspark_local.training.replay import Tally
    from dspark_local.training.schedule import Schedule
    from dspark_local.training.states import StateCache
    from dspark_local.training.text import Batch

ALPHA_CE, ALPHA_L1, ALPHA_CONFIDENCE, DECAY = 0.1, 0.9, 1.0, 4.0
MATRIX_RATE, OTHER_RATE = 0.02, 3e-3  # of Muon and of Adam
RESUME = "resume.safetensors"
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


class Run:
    """A drafter on its way, in a folder and in the precision of its heads; `identity` tells its run from others."""

    def __init__(
        self,
        drafter: Drafter,
        heads: TorchHeads,
        lesson: Lesson,
        cache: StateCache,
        schedule: Schedule,
        folder: Path,
        *,
        identity: dict[str, Any],
        tell: Callable[[str], None],
    ) -> None:
        self._drafter, self._heads, self._lesson, self._cache = drafter, heads, lesson, cache
        self._schedule = schedule
        self._folder, self._identity, self._tell = folder, identity, tell
        self._optimiser = MasteredOptimiser(
            drafter, matrix_rate=MATRIX_RATE * schedule.rate, other_rate=OTHER_RATE * schedule.rate
        )  # its masters are the drafter's weights before they are rounded
        drafter.to(heads.dtype)
        self._at = Position()
        self._began = time.process_time()
        self._losses: list[float] = []

    def fit(self, progress: Callable[[str, float], None]) -> Position:
        """Train until the steps are done or nothing gets better; the best drafter is in `folder/draft`.

        Raises TrainingError when the loss is no number, or the disk is full.
        """
        steps, interval = self._schedule.steps, self._schedule.interval
        if resumed := read_position(self._folder / RESUME, self._identity):
            state, self._at = resumed
            self._optimiser.restore(state, self._at.step)
            self._began -= self._at.cpu_seconds
            self._tell(f"going on from step {self._at.step}")
        else:
            self._judge(0)
        batches_left = itertools.islice(drawn(self._lesson, self._cache, self._schedule), self._at.step, steps)
        for step, (shard, batch) in enumerate(batches_left, self._at.step + 1):
            if self._at.step - self._at.best_step >= self._schedule.patience * interval:
                self._tell(f"no better since step {self._at.best_step}, so this is the end")
                break
            self.learn(step, shard, batch)
            progress("training", step / steps)
            if step % interval == 0 or step == steps:
                self._judge(step)
        return self._at

    def learn(self, step: int, shard: list[int], batch: Batch) -> None:
        """Take one step. Raises TrainingError when the loss is no number."""
        generator = torch.Generator().manual_seed(self._schedule.seed * _SEEDS + step)
        anchors = pick_anchors(self._heads.flags(batch.learn), self._schedule.anchors, generator)
        states = self._cache.open(shard).states(batch)
        loss = loss_of(self._drafter, self._heads, batch, states, anchors)
        self._losses.append(loss.item())
        if not math.isfinite(self._losses[-1]):
            raise TrainingError(
                f"the loss is no number any more at step {step}; start again with a lower --rate, in another --out"
            )
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        self._optimiser.step(max(0.0, rate_at((step - 1) / self._schedule.steps)))

    def _judge(self, step: int) -> None:
        """Judge the drafter, keep it if it is the best, and write down where the run is."""
        lesson, best, best_step = self._lesson, self._at.best, self._at.best_step
        found = judge(self._drafter, self._heads, self._cache, lesson.texts, lesson.judged)
        if found.accepted_length >= best:  # of two as good, the one that learned longer
            best, best_step = found.accepted_length, step
            write_drafter(self._folder / "draft", self._optimiser.masters, self._drafter.design)
        self._at = Position(step, best, best_step, time.process_time() - self._began)
        self._tell(_line(self._at, self._schedule.steps, self._losses, found))
        self._losses.clear()
        write_position(self._folder / RESUME, self._optimiser.state(), self._at, self._identity)


def drawn(lesson: Lesson, cache: StateCache, schedule: Schedule) -> Iterator[tuple[list[int], Batch]]:
    """Batches, and the shard that each lies in, for ever; nothing is read before it is used."""
    shards = cache.shards(lesson.learned)
    for epoch in itertools.count():
        for n in np.random.default_rng((schedule.seed, epoch)).permutation(len(shards)).tolist():
            seed = (schedule.seed, epoch, n)
            for batch in batches(lesson.texts, shards[n], tokens=schedule.tokens, seed=seed):
                yield shards[n], batch


def _line(at: Position, steps: int, losses: Sequence[float], found: Tally) -> str:
    loss = f"loss {sum(losses) / len(losses):.3f}, " if losses else ""
    shares = " ".join(f"{share:.2f}" for share in found.shares)
    return (
        f"step {at.step} of {steps}: {loss}held-out accepted length {found.accepted_length:.2f}, "
        f"by position {shares}, {at.cpu_seconds / 60:.1f} minutes of CPU"
    )
