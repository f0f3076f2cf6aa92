"""DSpark: a block from the drafter's graph, its tokens picked by the one rule from the drafter's logits.

The graph chains the Markov head by argmax. Where the rule picks another token, the rows behind it are re-based on
that token, exactly for the likeliest candidates.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np

from dspark_local.backend.base import Block, Features
from dspark_local.backend.candidates import MOST, Candidates
from dspark_local.drafters.base import Proposal
from dspark_local.errors import BackendError

if TYPE_CHECKING:
    from collections.abc import Sequence as Many

    from dspark_local.backend.base import Draft, Drafted, Floats, Rebased
    from dspark_local.sampling.truncation import Ids
    from dspark_local.sequence import Sequence


MOST_PENDING = 512  # rows of a slot that wait while nothing is drafted; in f32, for f16 overflows in some models


class Head(Protocol):
    """The Markov head, row by row (backend.heads)."""

    def rebase(self, row: Candidates, confidence: float, chained: int, previous: int) -> Rebased:
        """A row that was drafted behind `chained`, as it had been behind `previous`."""
        ...


@dataclass(slots=True)
class Pending:
    """Rows [n, taps · width] of consecutive positions from `start` on, not injected yet."""

    start: int
    rows: list[Floats] = field(default_factory=list)

    @property
    def count(self) -> int:
        """How many rows they are together."""
        return sum(map(len, self.rows))


class DSpark:
    """Proposes blocks of a DSpark draft model."""

    name = "dspark"

    def __init__(self, draft: Draft, head: Head | None = None) -> None:
        self._draft = draft
        self._head = head
        self._pending: dict[int, Pending] = {}
        self.block_size = draft.block_size
        self.forgetful = draft.forgetful

    @property
    def busy(self) -> float:
        """Seconds spent inside the draft model's decodes so far."""
        return self._draft.busy

    def propose(self, sequences: Many[Sequence], gamma: int) -> list[Proposal]:
        """One block of γ tokens for each sequence, all in one decode."""
        blocks = [Block(s.slot, s.start, s.anchor, whole=not s.sampler.looks_at(MOST)) for s in sequences]
        drafted = self._draft.draft(blocks, gamma)
        return [self._pick(s, d) for s, d in zip(sequences, drafted, strict=True)]

    def _pick(self, sequence: Sequence, drafted: Drafted) -> Proposal:
        """A token for each row, up to where the grammar, should there be one, leaves the drafter none."""
        tokens: list[int] = []
        confidences: list[float] = []
        walk = sequence.walk.fork()
        greedy = sequence.sampler.looks_at(1)  # then picks are the graph's own, and each row is looked at once
        previous = chained = sequence.anchor  # the token picked for the row before, and the graph's own
        for k, logits in enumerate(drafted.logits):
            ids = None if drafted.ids is None else drafted.ids[k]
            confidence = 1.0 if drafted.confidences is None else float(drafted.confidences[k])
            if self._head and previous != chained:
                row = Candidates.of(logits, ids)
                rebased = self._head.rebase(row, confidence, chained, previous)
                token, confidence, chained = walk.pick(rebased.logits, row.ids), rebased.confidence, row.greedy
            else:
                token = walk.pick(logits, ids)
                chained = token if greedy and token is not None else _best(logits, ids)
            if token is None:
                break
            previous = token
            tokens.append(token)
            confidences.append(confidence)
        return Proposal(tuple(tokens), () if drafted.confidences is None else tuple(confidences), self.name)

    def offer(self, sequence: Sequence) -> Proposal:  # noqa: ARG002 - the Protocol's
        """Nothing: a block takes a decode."""
        return Proposal()

    def observe(self, features: Many[Features]) -> None:
        """Keep the hidden states; they are injected when a block is wanted, so plain rounds do not pay for them."""
        for feature in features:
            if not len(feature.rows):
                continue
            pending = self._pending.setdefault(feature.slot, Pending(feature.start))
            assert feature.start == pending.start + pending.count
            pending.rows.append(feature.rows)
        self._inject([f.slot for f in features if self.pending(f.slot) > MOST_PENDING])

    def pending(self, slot: int) -> int:
        """How many rows wait for their injection."""
        return self._pending[slot].count if slot in self._pending else 0

    def catch_up(self, sequences: Many[Sequence]) -> None:
        """Inject what waits for these sequences."""
        self._inject([s.slot for s in sequences if s.slot in self._pending])

    def _inject(self, slots: Many[int]) -> None:
        """Rows wait until the model has them: one that fails loses none."""
        while waiting := [(slot, self._pending[slot]) for slot in slots if slot in self._pending]:
            batch: list[Features] = []
            room = self._draft.n_batch
            for slot, pending in waiting:
                pending.rows[:] = [np.concatenate(pending.rows)]
                taken = pending.rows[0][:room]
                room -= len(taken)
                if len(taken):
                    batch.append(Features(slot, pending.start, taken))
            self._draft.inject(batch)
            for injected in batch:
                self._injected(injected)

    def _injected(self, features: Features) -> None:
        pending = self._pending[features.slot]
        n = len(features.rows)
        if n == pending.count:
            del self._pending[features.slot]
        else:
            pending.start, pending.rows[:] = pending.start + n, [pending.rows[0][n:]]

    def rewind(self, slot: int, n: int) -> None:
        """Forget all but the first n positions of a slot."""
        pending = self._pending.get(slot)
        if pending and n > pending.start:
            pending.rows[:] = [np.concatenate(pending.rows)[: n - pending.start]]
            return
        self._pending.pop(slot, None)
        self._draft.rewind(slot, n)

    def copy(self, source: int, slot: int, n: int) -> None:
        """Let a slot hold what another one does of its first n positions; rows that wait are shared."""
        self._pending.pop(slot, None)
        self._draft.copy(source, slot, n)
        pending = self._pending.get(source)
        if pending and n > pending.start:
            self._pending[slot] = Pending(pending.start, [np.concatenate(pending.rows)[: n - pending.start]])

    def state(self, slot: int, tokens: Many[int], most: int) -> bytearray:  # noqa: ARG002 - they are all injected
        """The model's cache as bytes, once it has the rows that wait."""
        self._inject([slot])
        return self._draft.state(slot, most)

    def restore(self, slot: int, state: bytearray, tokens: Many[int]) -> None:
        """Put a cache back; nothing waits."""
        self._pending.pop(slot, None)
        if self._draft.restore(slot, state) != len(tokens):
            self._draft.rewind(slot, 0)
            raise BackendError("a drafter's cache is not that of its text")

    def close(self) -> None:
        """Free the draft model."""
        self._draft.close()


def _best(logits: Floats, ids: Ids | None) -> int:
    """The likeliest token of a row, of equal ones the smallest."""
    best = int(logits.argmax())
    return best if ids is None else int(ids[best])
