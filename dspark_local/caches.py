"""Both caches of every slot: where a request's beginning comes from, and what becomes of what was there before."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING

from dspark_local.backend.base import FAILURES
from dspark_local.errors import BackendError
from dspark_local.prefix import Slots
from dspark_local.snapshots import LEAST, Snapshot, Snapshots

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Sequence as Many

    from dspark_local.backend.base import Target
    from dspark_local.drafters.base import Drafter
    from dspark_local.sequence import Sequence

_NO_TOKEN = -1  # in place of an anchor, for a text that is looked for as a whole
SHARED = 64  # tokens of a beginning that another prompt is worth waiting for: waiting costs a step
_logger = logging.getLogger(__name__)


class Caches:
    """What target and drafter hold, slot by slot; the two agree between steps.

    A beginning that some slot holds is copied, or kept where it is if the slot goes on with it; one that is kept in
    the host's memory, up to `budget` bytes, is put back. `chunk` as in prefix.Slots.
    """

    def __init__(self, target: Target, drafter: Drafter, *, chunk: int, budget: int) -> None:
        self._target, self._drafter = target, drafter
        whole = target.forgetful or drafter.forgetful
        self._slots = Slots(target.n_slots, chunk=chunk, whole=whole)
        self._kept = Snapshots(budget, whole=whole or target.windowed)
        self._leaders: dict[Sequence, tuple[Sequence, int]] = {}

    @property
    def free(self) -> int:
        """How many requests could still join."""
        return self._slots.free

    def take(self, tokens: Many[int]) -> tuple[int, int]:
        """A free slot for a prompt, and how many of its first tokens the slot's caches hold now."""
        source, n = self._slots.best(tokens)
        snapshot, restored = self._kept.best(tokens, self._slots.cut)
        slot = self._slots.place(tokens, source, n)
        if self._slots.held(slot) - (n if slot == source else 0) >= LEAST:
            self._keep(slot)
        floor = self._slots.floor(slot) if slot == source else 0
        self._slots.hold(slot, [], 0)  # until it does
        if snapshot and restored >= n + LEAST:
            n = floor = restored if self._tried(slot, lambda: self._restore(slot, snapshot)) else 0
            if n:
                self._kept.used(snapshot, whole=restored >= len(snapshot.tokens) - LEAST)
        elif slot != source and n and not self._tried(slot, lambda: self._copy(source, slot, n)):
            n = 0
        n = self.rewind(slot, n)
        self._slots.hold(slot, list(tokens[:n]), n, floor=min(n, floor) if self._target.windowed else 0)
        return slot, n

    def join(self, sequence: Sequence) -> None:
        """A sequence runs in the slot that its prompt took."""
        if leader := self._slots.leader(sequence.tokens, sequence.cached + SHARED):
            self._leaders[sequence] = leader
        self._slots.take(sequence)
        sequence.stats.cached_n = sequence.cached

    def waits(self, sequence: Sequence) -> bool:
        """Whether another prompt that begins alike is being prefilled so far; what both share is copied then."""
        if sequence not in self._leaders:
            return False
        leader, n = self._leaders[sequence]
        if self._slots.runs(leader) and leader.cached < n:
            return True
        del self._leaders[sequence]
        source, n = self._slots.best(sequence.tokens, but=sequence.slot)
        if n > sequence.cached:
            sequence.cached = n if self._tried(sequence.slot, lambda: self._copy(source, sequence.slot, n)) else 0
            self._slots.prefilled(sequence)
            sequence.stats.cached_n = sequence.cached
        return False

    def prefilled(self, sequence: Sequence) -> None:
        """Note how far whole chunks of a prompt reach."""
        self._slots.prefilled(sequence)

    def spare(self, slot: int, width: int) -> int:
        """Where in a slot so many rows that nobody wants can go, behind what it holds; without room it forgets that."""
        held = self._slots.reach(slot)
        if held + width <= self._target.n_ctx:
            return held
        self.forget(slot)
        return 0

    def leave(self, sequence: Sequence) -> None:
        """A sequence ends; its slot keeps what it cached until it is taken again."""
        self._leaders.pop(sequence, None)
        self._slots.leave(sequence)
        if sequence.severed:
            self.forget(sequence.slot)

    def forget(self, slot: int) -> None:
        """Nothing that a slot's caches hold may be used again: nobody runs in it, or no longer."""
        self._slots.hold(slot, [], 0)
        self.rewind(slot, 0)

    def make_room(self) -> None:
        """Forget what nobody runs in."""
        for slot in self._slots.idle:
            self.forget(slot)

    def rewind(self, slot: int, n: int) -> int:
        """Forget all but the first n positions of a slot, or all where a cache cannot go back; how many are left."""
        n = self._target.rewind(slot, n)
        self._drafter.rewind(slot, n)
        return n

    def snapshot(self, tokens: Many[int]) -> Snapshot | None:
        """What is held of a text, and nothing else; None if that is nothing. Raises BackendError.

        A slot that went on otherwise loses what it went on with, or is passed over while it runs.
        """
        slot, n = self._slots.best([*tokens, _NO_TOKEN])
        kept, restored = self._kept.best([*tokens, _NO_TOKEN], self._slots.cut)
        if kept and restored > n and restored == len(kept.tokens):
            return kept
        if 0 < n < self._slots.held(slot) and slot in self._slots.idle:
            prefilled, floor = self._slots.prefilled_of(slot), self._slots.floor(slot)
            self._slots.hold(slot, self._slots.text(slot)[:n], min(n, prefilled), floor=floor)
            self.rewind(slot, n)
        return self._state(slot, sys.maxsize) if n and n == self._slots.held(slot) else None

    def adopt(self, snapshot: Snapshot) -> None:
        """Keep a state that came from elsewhere."""
        self._kept.add(snapshot)

    def _keep(self, slot: int) -> None:
        """Before a slot is taken: keep what it holds, unless that is held elsewhere too."""
        tokens = self._slots.text(slot)
        _, elsewhere = self._slots.best([*tokens, _NO_TOKEN], but=slot)
        if not self._kept.budget or elsewhere == len(tokens) or self._kept.covers(tokens):
            return
        try:
            self._kept.add(self._state(slot, self._kept.budget))
        except FAILURES as error:
            _logger.debug("slot %d is not kept: %s", slot, error)

    def _state(self, slot: int, most: int) -> Snapshot:
        tokens = self._slots.text(slot)
        target = self._target.state(slot, most)
        drafter = self._drafter.state(slot, tokens, most - len(target))
        return Snapshot(tokens, self._slots.prefilled_of(slot), target, drafter)

    def _restore(self, slot: int, snapshot: Snapshot) -> None:
        if self._target.restore(slot, snapshot.target) != len(snapshot.tokens):
            raise BackendError("a cache that was kept is not that of its text")
        self._drafter.restore(slot, snapshot.drafter, snapshot.tokens)

    def _copy(self, source: int, slot: int, n: int) -> None:
        self._target.copy(source, slot, n)
        self._drafter.copy(source, slot, n)

    def _tried(self, slot: int, fill: Callable[[], None]) -> bool:
        """Fill an idle slot's caches; if that fails, they are empty, and a prompt is prefilled from its beginning."""
        try:
            fill()
        except FAILURES as error:
            _logger.debug("slot %d starts cold: %s", slot, error)
            self.rewind(slot, 0)
            return False
        return True
