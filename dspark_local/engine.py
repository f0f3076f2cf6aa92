"""The round: propose → schedule → decode → verify → rewind → observe, for R sequences at once.

Plain decoding is the same loop with the empty drafter. The engine knows models only as backend.base draws them.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dspark_local.backend.base import Features, Rows, Span, Target
from dspark_local.errors import ContextError, UsageError
from dspark_local.prefix import Slots
from dspark_local.sampling.logprobs import logprobs
from dspark_local.scheduling.policy import Plan, Request
from dspark_local.sequence import Sequence
from dspark_local.types import FinishReason, Round, RoundTimes

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Sequence as Many

    from dspark_local.drafters.base import Drafter, Proposal
    from dspark_local.sampling.rule import Sampler
    from dspark_local.scheduling.policy import Policy
    from dspark_local.types import TokenLogprobs

CHUNK = 256  # tokens of a prefill decode: short enough to cancel between two


@dataclass(slots=True)
class Picked:
    """What the target picked for one sequence in a round, and how likely it held it, if that was asked."""

    tokens: list[int] = field(default_factory=list)
    logprobs: list[TokenLogprobs] = field(default_factory=list)


class Engine:
    """R sequences over one target and one drafter.

    `is_end` tells the target's end tokens. `fixed_width` W makes every generating decode W rows in each slot, padded
    with `pad`, so that its rounding, and with it the text, depends on seed and target alone (docs/architecture.md).
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
    ) -> None:
        self.target = target
        self.drafter = drafter
        self.policy = policy
        self.active: list[Sequence] = []
        self._is_end = is_end
        self._width = fixed_width
        self._pad = pad
        self._room = target.n_ctx - (fixed_width or 1) + 1  # longest text that a round can still follow
        self._chunk = min(CHUNK, target.n_batch)
        self._slots = Slots(target.n_slots, chunk=self._chunk if fixed_width else 1)

    @property
    def free(self) -> int:
        """How many requests could still join."""
        return self._slots.free

    def check(self, tokens: Many[int]) -> None:
        """Raise UsageError for an empty prompt, ContextError for one that the context does not hold."""
        if not tokens:
            raise UsageError("the prompt is empty; give at least one token")
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
        slot, cached = self._slots.take(tokens)
        self._rewind(slot, cached)
        sequence = Sequence(slot, list(tokens), sampler, max_tokens, draft=draft, cached=cached)
        self.active.append(sequence)
        return sequence

    def step(self) -> list[tuple[Sequence, Round]]:
        """One prefill chunk if any is due, then one round for every sequence that is ready."""
        clock = _Clock(self.target, self.drafter)
        self._prefill()
        clock.lap("prefill")
        ready = [s for s in self.active if s.prefilled]
        if not ready:
            self._waited(clock)
            return []

        plan = self.policy.plan([self._request(s) for s in ready]) if self.drafter.block_size else Plan()
        drafting = [s for s in ready if s.slot in plan.slots]
        self.drafter.catch_up(drafting)
        clock.lap("inject")
        proposals = self._propose(drafting, plan.gamma)
        clock.lap("draft")
        drafts = self._schedule(drafting, proposals)

        rows = self._verify(ready, drafts)
        clock.lap("verify")
        committed = [self._accept(s, drafts.get(s.slot, ()), r) for s, r in zip(ready, rows, strict=True)]
        features = [self._keep(s, p.tokens, r) for s, p, r in zip(ready, committed, rows, strict=True)]
        self.drafter.observe([f for f in features if f is not None])

        return self._record(ready, plan, proposals, drafts, committed, clock.stop())

    def finish(self, sequence: Sequence, reason: FinishReason, *, keep: int | None = None) -> None:
        """End a sequence; both caches keep what its first `keep` tokens (all, if None) are worth."""
        if sequence not in self.active:
            return
        if keep is not None:
            assert sequence.prompt_n <= keep <= len(sequence.tokens)
            del sequence.tokens[keep:]
            self._cut(sequence, min(sequence.cached, keep))
        sequence.finish_reason = reason
        self.active.remove(sequence)
        self._slots.give_back(sequence)

    def abandon(self) -> list[Sequence]:
        """After a failed decode: give up every sequence and trust no cache. Returns what was given up."""
        given_up = self.active[:]
        for sequence in given_up:
            self.finish(sequence, FinishReason.CANCELLED)
        for slot in range(self.target.n_slots):
            self._slots.forget(slot)
            self._rewind(slot, 0)
        return given_up

    def close(self) -> None:
        """Free the drafter, then the target: llama.cpp wants this order."""
        self.active.clear()
        self.drafter.close()
        self.target.close()

    def _prefill(self) -> None:
        sequence = next((s for s in self.active if not s.prefilled), None)
        if sequence is None:
            return
        end = min(sequence.cached + self._chunk, sequence.start)
        span = Span(sequence.slot, sequence.cached, sequence.tokens[sequence.cached : end], logits=False)
        (rows,) = self.target.decode([span])
        if rows.hidden is not None:
            self.drafter.observe([Features(sequence.slot, sequence.cached, rows.hidden)])
        sequence.cached = end
        self._slots.prefilled(sequence)

    def _request(self, sequence: Sequence) -> Request:
        return Request(
            sequence.slot,
            self._limit(sequence),
            depth=sequence.cached,
            pending=self.drafter.pending(sequence.slot),
            rounds=sequence.stats.rounds,
            temperature=sequence.sampler.params.temperature,
        )

    def _propose(self, drafting: list[Sequence], gamma: int) -> dict[int, Proposal]:
        proposals = self.drafter.propose(drafting, gamma) if drafting else []
        return {s.slot: p for s, p in zip(drafting, proposals, strict=True)}

    def _limit(self, sequence: Sequence) -> int:
        """Most drafts that this sequence can use: a round commits one token more than it accepts."""
        if not sequence.draft:
            return 0
        rows = self._width or self.target.n_ctx
        return max(0, min(sequence.remaining - 1, self._room - len(sequence.tokens), rows - 1))

    def _schedule(self, drafting: list[Sequence], proposals: dict[int, Proposal]) -> dict[int, tuple[int, ...]]:
        given = [proposals[s.slot] for s in drafting]
        admitted = self.policy.admit([p.confidences for p in given], [len(p.tokens) for p in given])
        return {s.slot: p.tokens[: min(n, self._limit(s))] for s, p, n in zip(drafting, given, admitted, strict=True)}

    def _verify(self, ready: list[Sequence], drafts: dict[int, tuple[int, ...]]) -> list[Rows]:
        spans = [Span(s.slot, s.start, (s.anchor, *drafts.get(s.slot, ()))) for s in ready]
        if self._width is None:
            return self.target.decode(spans)
        return self._verify_padded(spans, self._width)

    def _verify_padded(self, spans: list[Span], width: int) -> list[Rows]:
        """The same decode at a constant shape: every slot has `width` rows, pads behind the real ones."""
        real = {span.slot: span for span in spans}
        pads = [self._pad] * width
        padded = [
            Span(slot, span.start, (*span.tokens, *pads[len(span.tokens) :]))
            for slot in range(self.target.n_slots)
            for span in (real.get(slot) or self._idle(slot, width),)
        ]
        rows = self.target.decode(padded)
        for span in padded:
            if span.slot not in real:
                self.target.rewind(span.slot, span.start)
        return [_first(rows[span.slot], len(span.tokens)) for span in spans]

    def _idle(self, slot: int, width: int) -> Span:
        """Nothing, behind what the slot holds: of its prompt so far, or of the request that it last served."""
        held = next((s.cached for s in self.active if s.slot == slot), self._slots.held(slot))
        if held + width > self.target.n_ctx:
            self._slots.forget(slot)
            self._rewind(slot, held := 0)
        return Span(slot, held, ())

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

    def _keep(self, sequence: Sequence, committed: list[int], rows: Rows) -> Features | None:
        """Commit, and forget what the caches hold beyond; the rows that stay are the drafter's to take."""
        start = sequence.start
        sequence.tokens += committed
        sequence.cached = start + len(committed)
        self.target.rewind(sequence.slot, sequence.cached)
        if rows.hidden is None:
            return None
        return Features(sequence.slot, start, rows.hidden[: len(committed)])

    def _record(
        self,
        ready: list[Sequence],
        plan: Plan,
        proposals: dict[int, Proposal],
        drafts: dict[int, tuple[int, ...]],
        committed: list[Picked],
        times: RoundTimes,
    ) -> list[tuple[Sequence, Round]]:
        records = []
        for sequence, picked in zip(ready, committed, strict=True):
            tokens = picked.tokens
            proposal, admitted = proposals.get(sequence.slot), drafts.get(sequence.slot, ())
            accepted = next((k for k, (a, b) in enumerate(zip(tokens, admitted, strict=False)) if a != b), None)
            record = Round(
                tokens=tuple(tokens),
                draft=proposal.tokens if proposal else (),
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
            sequence.stats.add(record)
            records.append((sequence, record))
            if reason := self._ended(sequence):
                self.finish(sequence, reason)
        self.policy.observe([record for _, record in records])
        return records

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

    def _cut(self, sequence: Sequence, cached: int) -> None:
        sequence.cached = cached
        self._rewind(sequence.slot, cached)

    def _rewind(self, slot: int, n: int) -> None:
        self.target.rewind(slot, n)
        self.drafter.rewind(slot, n)

    def _waited(self, clock: _Clock) -> None:
        times = clock.stop()
        for sequence in self.active:
            sequence.stats.times += times


def _first(rows: Rows, n: int) -> Rows:
    return Rows(rows.logits[:n], None if rows.hidden is None else rows.hidden[:n])


class _Clock:
    """Splits the seconds of a step among its parts; what no decode took is the host's."""

    def __init__(self, target: Target, drafter: Drafter) -> None:
        self._target, self._drafter = target, drafter
        self._began = time.perf_counter()
        self._busy = self._read()
        self._parts = {"prefill": 0.0, "draft": 0.0, "verify": 0.0, "inject": 0.0}

    def _read(self) -> float:
        return self._target.busy + self._drafter.busy

    def lap(self, part: str) -> None:
        busy = self._read()
        self._parts[part] += busy - self._busy
        self._busy = busy

    def stop(self) -> RoundTimes:
        host = time.perf_counter() - self._began - sum(self._parts.values())
        return RoundTimes(**self._parts, host=max(0.0, host))
