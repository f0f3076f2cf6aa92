"""The round: propose → schedule → decode → verify → rewind → observe, for R sequences at once.

Plain decoding is the same loop with the empty drafter. The engine knows models only as backend.base draws them.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dspark_local.backend.base import FAILURES, Failure, Features, Rows, Span, Target
from dspark_local.caches import Caches
from dspark_local.clock import Clock
from dspark_local.decoding import Decoding, count
from dspark_local.drafters.base import Proposal
from dspark_local.errors import BackendError, ContextError, UsageError
from dspark_local.prefill import CHUNK, Prefill
from dspark_local.sampling.logprobs import logprobs
from dspark_local.scheduling.policy import Plan, Request
from dspark_local.sequence import Sequence
from dspark_local.types import FinishReason, Round, RoundTimes, Why

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Sequence as Many

    from dspark_local.drafters.base import Drafter
    from dspark_local.sampling.rule import Sampler
    from dspark_local.scheduling.policy import Policy
    from dspark_local.snapshots import Snapshot
    from dspark_local.types import TokenLogprobs

STUMBLES = 3  # rounds in which the drafter may fail for a sequence before it is left out
_logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Picked:
    """What the target picked for one sequence in a round, and how likely it held it, if that was asked."""

    tokens: list[int] = field(default_factory=list)
    logprobs: list[TokenLogprobs] = field(default_factory=list)


class Engine:
    """R sequences over one target and one drafter.

    `is_end` tells the target's end tokens. `fixed_width` W makes every generating decode W rows in each slot, padded
    with `pad`, so that its rounding, and with it the text, depends on seed and target alone (docs/architecture.md).
    What slots held before they were taken again is kept in up to `keep_bytes` of the host's memory.
    """

    def __init__(
        self,
        target: Target,
        drafter: Drafter,
        policy: Policy,
        *,
        is_end: Callable[[int], bool],
        fixed_width: int | None = None,
        pad: int = 0,
        keep_bytes: int = 0,
    ) -> None:
        self.target = target
        self.drafter = drafter
        self.policy = policy
        self.active: list[Sequence] = []
        self._is_end = is_end
        self._width = fixed_width
        self._room = target.n_ctx - (fixed_width or 1) + 1  # longest text that a round can still follow
        chunk = min(CHUNK, target.n_batch)
        self._prefill = Prefill(chunk, whole=fixed_width is not None)
        self._caches = Caches(target, drafter, chunk=chunk if fixed_width else 1, budget=keep_bytes)
        self._decoding = Decoding(self._caches, width=fixed_width, pad=pad)

    @property
    def free(self) -> int:
        """How many requests could still join."""
        return self._caches.free

    def check(self, tokens: Many[int]) -> None:
        """Raise UsageError for a prompt that is empty or no text, ContextError for one beyond the context."""
        if not tokens:
            raise UsageError("the prompt is empty; give at least one token")
        if not 0 <= min(tokens) <= max(tokens) < self.target.n_vocab:
            raise UsageError(f"the prompt has a token beyond the model's, which go from 0 to {self.target.n_vocab - 1}")
        if len(tokens) > self._room:
            raise ContextError(
                f"the prompt has {len(tokens)} tokens and the context holds {self._room}; "
                "shorten it or raise --ctx-size"
            )

    def add(self, tokens: Many[int], sampler: Sampler, *, max_tokens: int, draft: bool = True) -> Sequence:
        """Let a request join; it is prefilled chunk by chunk by the steps that follow.

        There must be a `free` slot. `draft` False opts out of drafting. Raises as `check` does.
        """
        self.check(tokens)
        slot, cached = self._caches.take(tokens)
        sequence = Sequence(slot, list(tokens), sampler, max_tokens, draft=draft, cached=cached)
        self._caches.join(sequence)
        self.active.append(sequence)
        return sequence

    def step(self) -> list[tuple[Sequence, Round]]:
        """One round for every sequence that is ready, and with it chunks of the prompts of those that are not yet.

        A decode that fails costs only the sequences that cannot go on: they leave `active` with their `error`.
        """
        clock = Clock(self.target, self.drafter)
        waiting = [s for s in self.active if not s.prefilled and self._caches.waits(s)]
        ready = [s for s in self.active if s.prefilled]
        due = [s for s in self.active if not s.prefilled and s not in waiting]
        offers = {s.slot: self.drafter.offer(s) for s in ready}
        chunks = self._prefill.plan(due, streaming=len(ready), room=self._beside(ready, offers))

        requests = [self._request(s, offers[s.slot]) for s in ready]
        plan = self.policy.plan(requests) if ready and self.drafter.block_size else Plan()
        proposals = self._propose([s for s in ready if s.slot in plan.slots], plan.gamma, clock)
        proposals |= {slot: offers[slot] for slot in plan.takers}
        drafts = self._schedule([s for s in ready if s.slot in (*plan.slots, *plan.takers)], proposals)

        spans = [Span(s.slot, s.start, (s.anchor, *drafts.get(s.slot, ()))) for s in ready]
        committed = self._decode(spans, chunks, drafts)
        self._prefill.learn(count(chunks), clock.decoded(prefilled=count(chunks), verified=count(spans)))
        times = clock.stop()
        begun = self._begin([*waiting, *due], committed, times)
        return begun + self._record(committed, plan, proposals, drafts, times)

    def finish(self, sequence: Sequence, reason: FinishReason, *, keep: int | None = None) -> None:
        """End a sequence; both caches keep what its first `keep` tokens (all, if None) are worth."""
        if sequence not in self.active:
            return
        if keep is not None:
            assert sequence.prompt_n <= keep <= len(sequence.tokens)
            del sequence.tokens[keep:]
            sequence.cached = min(sequence.cached, keep)
            sequence.cached = self._caches.rewind(sequence.slot, sequence.cached)
        sequence.finish_reason = reason
        self.active.remove(sequence)
        self._caches.leave(sequence)

    def abandon(self) -> list[Sequence]:
        """After a step that raised: give up every sequence and trust no cache. Returns what was given up."""
        given_up = self.active[:]
        for sequence in given_up:
            self.finish(sequence, FinishReason.CANCELLED)
        self._caches.make_room()
        return given_up

    def snapshot(self, tokens: Many[int]) -> Snapshot | None:
        """What the caches hold of a text, for `adopt`; None if that is nothing. Raises BackendError."""
        return self._caches.snapshot(tokens)

    def adopt(self, snapshot: Snapshot) -> None:
        """Let requests begin with a snapshot that an engine of the same models took."""
        self._caches.adopt(snapshot)

    def close(self) -> None:
        """Free the drafter, then the target: llama.cpp wants this order."""
        self.active.clear()
        self.drafter.close()
        self.target.close()

    def _request(self, sequence: Sequence, offer: Proposal) -> Request:
        return Request(
            sequence.slot,
            self._limit(sequence),
            depth=sequence.cached,
            pending=self.drafter.pending(sequence.slot),
            rounds=sequence.stats.rounds,
            temperature=sequence.sampler.params.temperature,
            offered=offer.confidences,
        )

    def _propose(self, drafting: list[Sequence], gamma: int, clock: Clock) -> dict[int, Proposal]:
        """Blocks by slot; none in a round in which the drafter fails."""
        if not drafting:
            return {}
        try:
            self.drafter.catch_up(drafting)
            clock.lap("inject")
            proposals = self.drafter.propose(drafting, gamma)
        except FAILURES as error:
            self._stumble([s.slot for s in drafting], error)
            return {}
        finally:
            clock.lap("draft")
        return {s.slot: p for s, p in zip(drafting, proposals, strict=True)}

    def _observe(self, features: list[Features]) -> None:
        try:
            self.drafter.observe(features)
        except FAILURES as error:
            self._stumble([f.slot for f in features], error)

    def _stumble(self, slots: list[int], error: Failure) -> None:
        """The drafter failed, which costs no text; where it does so again and again, it is left out."""
        _logger.warning("the drafter failed: %s", error)
        for sequence in [s for s in self.active if s.slot in slots]:
            sequence.stumbles += 1
            if sequence.stumbles == STUMBLES:
                sequence.severed = True
                self.drafter.rewind(sequence.slot, 0)

    def _limit(self, sequence: Sequence) -> int:
        """Most drafts that this sequence can use: a round commits one token more than it accepts."""
        if not sequence.draft or sequence.severed:
            return 0
        rows = self._width or self.target.n_ctx
        return max(0, min(sequence.remaining - 1, self._room - len(sequence.tokens), rows - 1))

    def _beside(self, ready: list[Sequence], offers: dict[int, Proposal]) -> int:
        """Rows of a batch that a round leaves, however many drafts it verifies."""
        longest = {s.slot: max(self.drafter.block_size, len(offers[s.slot].tokens)) for s in ready}
        return self.target.n_batch - sum(1 + min(self._limit(s), longest[s.slot]) for s in ready)

    def _schedule(self, drafting: list[Sequence], proposals: dict[int, Proposal]) -> dict[int, tuple[int, ...]]:
        if not drafting:
            return {}
        given = [proposals.get(s.slot, Proposal()) for s in drafting]
        try:
            admitted = self.policy.admit([p.confidences for p in given], [len(p.tokens) for p in given])
        except BackendError as error:  # a confidence that is no number
            self._stumble([s.slot for s in drafting], error)
            proposals.clear()
            return {}
        return {s.slot: p.tokens[: min(n, self._limit(s))] for s, p, n in zip(drafting, given, admitted, strict=True)}

    def _decode(
        self, spans: list[Span], chunks: list[Span], drafts: dict[int, tuple[int, ...]]
    ) -> dict[Sequence, Picked]:
        """Decode, and take in what comes of it: rounds commit, prompts get on, and what cannot run is lost."""
        committed: dict[Sequence, Picked] = {}
        features = []
        for span, rows in self._decoding.step(self.target, spans, chunks):
            sequence = self._at(span.slot)
            try:
                if isinstance(rows, FAILURES):
                    raise rows
                if span.n_outputs:
                    picked = self._accept(sequence, drafts.get(span.slot, ()), rows)
                    self._keep(sequence, picked.tokens)
                    committed[sequence] = picked
                else:
                    sequence.cached += len(span.tokens)
                    self._caches.prefilled(sequence)
            except FAILURES as error:
                self._lose(sequence, error)
            else:
                if rows.hidden is not None and not sequence.severed:
                    features.append(Features(span.slot, span.start, rows.hidden[: sequence.cached - span.start]))
        self._observe(features)
        return committed

    def _accept(self, sequence: Sequence, drafts: Many[int], rows: Rows) -> Picked:
        """Tokens that the target picks, up to the first that was not drafted, or that ends the answer."""
        picked = Picked()
        wanted = sequence.sampler.params.logprobs
        for k, logits in enumerate(rows.logits):
            token = sequence.walk.pick(logits)
            if token is None:
                break
            picked.tokens.append(token)
            if wanted is not None:
                picked.logprobs.append(logprobs(logits, token, wanted))
            if k == len(drafts) or token != drafts[k] or self._is_end(token):
                break
        return picked

    def _keep(self, sequence: Sequence, tokens: list[int]) -> None:
        """Commit, and forget what the target's cache holds beyond."""
        sequence.cached = sequence.start + len(tokens)
        sequence.tokens += tokens
        self.target.rewind(sequence.slot, sequence.cached)

    def _begin(
        self, prompted: list[Sequence], committed: dict[Sequence, Picked], times: RoundTimes
    ) -> list[tuple[Sequence, Round]]:
        """What a step was to those who had a prompt in it: time, and a first token that came with the last chunk."""
        aside, records = RoundTimes(prefill=times.total), []
        for sequence in prompted:
            if picked := committed.pop(sequence, None):
                said = tuple(picked.tokens), tuple(picked.logprobs)
                records.append(self._count(sequence, Round(said[0], times=aside, why=Why.PROMPT, logprobs=said[1])))
            else:
                sequence.stats.times += aside
        return records

    def _record(
        self,
        committed: dict[Sequence, Picked],
        plan: Plan,
        proposals: dict[int, Proposal],
        drafts: dict[int, tuple[int, ...]],
        times: RoundTimes,
    ) -> list[tuple[Sequence, Round]]:
        records = []
        for sequence, picked in committed.items():
            tokens = picked.tokens
            proposal, admitted = proposals.get(sequence.slot), drafts.get(sequence.slot, ())
            accepted = next((k for k, (a, b) in enumerate(zip(tokens, admitted, strict=False)) if a != b), None)
            record = Round(
                tokens=tuple(tokens),
                draft=proposal.tokens if proposal else (),
                by=proposal.by if proposal else "",
                admitted=len(admitted),
                accepted=min(len(tokens), len(admitted)) if accepted is None else accepted,
                confidences=proposal.confidences if proposal else (),
                width=self._width or 1 + len(admitted),
                times=times,
                why=plan.why,
                rate=plan.rate,
                plain=plan.plain,
                logprobs=tuple(picked.logprobs),
            )
            records.append(self._count(sequence, record))
        if records:
            self.policy.observe([record for _, record in records])
        return records

    def _count(self, sequence: Sequence, record: Round) -> tuple[Sequence, Round]:
        """Count a record in, and see whether the answer ends with it."""
        sequence.stats.add(record)
        if reason := self._ended(sequence):
            self.finish(sequence, reason)
        return sequence, record

    def _ended(self, sequence: Sequence) -> FinishReason | None:
        if self._is_end(sequence.anchor):
            return FinishReason.STOP
        if sequence.walk.stuck:
            return FinishReason.GRAMMAR
        if sequence.remaining <= 0:
            return FinishReason.LENGTH
        if len(sequence.tokens) > self._room:
            return FinishReason.CONTEXT
        return None

    def _at(self, slot: int) -> Sequence:
        return next(s for s in self.active if s.slot == slot)

    def _lose(self, sequence: Sequence, error: Failure) -> None:
        """A sequence cannot go on, and its caches are not to be trusted."""
        sequence.error = error
        self.active.remove(sequence)
        self._caches.leave(sequence)
        self._caches.forget(sequence.slot)
