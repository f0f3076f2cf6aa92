"""Model: a small model of the target's vocabulary drafts token by token, picked by the one rule from its own logits.

Its context holds what it was given: behind a round, the part of its drafts that was accepted stays.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dspark_local.backend.base import Span
from dspark_local.drafters.base import Proposal, share

if TYPE_CHECKING:
    from collections.abc import Sequence as Many

    from dspark_local.backend.base import Features, Floats, Target
    from dspark_local.formats.translation import Translation
    from dspark_local.sampling.walk import Walk
    from dspark_local.sequence import Sequence

BLOCK = 7
_BESIDE = 2  # tokens behind the draft model's cache that are decoded with the anchor; more go before, without logits
MOST_ROWS = _BESIDE + 1  # with logits, for a sequence in a decode


@dataclass(slots=True)
class _Held:
    """Tokens of a slot that the draft model's cache holds; whose they are, and how many of them are committed."""

    tokens: list[int]
    sequence: Sequence | None = None
    sure: int = 0


@dataclass(slots=True)
class _Chain:
    """What is drafted behind a sequence, token by token."""

    sequence: Sequence
    walk: Walk
    tokens: list[int] = field(default_factory=list)
    confidences: list[float] = field(default_factory=list)


class Model:
    """Proposes chains of a small model; `translation` where a few tokens of its vocabulary differ from the target's."""

    name = "model"
    block_size = BLOCK

    def __init__(self, small: Target, translation: Translation) -> None:
        self._small = small
        self.forgetful = small.forgetful
        self._translation = translation
        self._held = {slot: _Held([]) for slot in range(small.n_slots)}

    @property
    def busy(self) -> float:
        """Seconds spent inside the small model's decodes so far."""
        return self._small.busy

    def propose(self, sequences: Many[Sequence], gamma: int) -> list[Proposal]:
        """A chain of γ tokens for each sequence, a decode for each token, and all sequences in it.

        A chain ends early where the grammar, should there be one, leaves no token.
        """
        chains = [_Chain(s, s.walk.fork()) for s in sequences]
        spans = {s.slot: self._rest(s) for s in sequences}
        for _ in range(gamma):
            going = [chain for chain in chains if not chain.walk.stuck]
            if not going:
                break
            for chain, row in zip(going, self._decode([spans[c.sequence.slot] for c in going]), strict=True):
                logits = self._translation.logits(row)
                position, token = chain.walk.position, chain.walk.pick(logits)
                if token is not None:
                    chain.tokens.append(token)
                    chain.confidences.append(share(logits, token))
                    spans[chain.sequence.slot] = Span(chain.sequence.slot, position, [token])
        return [Proposal(tuple(c.tokens), tuple(c.confidences), self.name) for c in chains]

    def offer(self, sequence: Sequence) -> Proposal:  # noqa: ARG002 - the Protocol's
        """Nothing: a token takes a decode."""
        return Proposal()

    def _rest(self, sequence: Sequence) -> Span:
        """What of a sequence the cache lacks, the anchor last; what it holds beyond is taken back."""
        held = self._held[sequence.slot]
        sure = held.sure if held.sequence is sequence else 0
        start = sure + _common(held.tokens[sure:], sequence.tokens[sure:-1])
        if start < len(held.tokens):
            self._small.rewind(sequence.slot, start)
            del held.tokens[start:]
        held.sequence, held.sure = sequence, start
        return Span(sequence.slot, start, sequence.tokens[start:])

    def _decode(self, spans: list[Span], *, outputs: int = 1) -> list[Floats]:
        """Logits behind each span, if wanted, in the small one's vocabulary; views that hold until the next decode."""
        given = [Span(s.slot, s.start, self._translation.tokens(s.tokens), outputs) for s in spans]
        rows = self._small.decode(given)
        for span in spans:
            self._held[span.slot].tokens += span.tokens
        return [r.logits[-1] for r in rows] if outputs else []

    def observe(self, features: Many[Features]) -> None:
        """Nothing to keep: the tokens are all that is needed."""

    def pending(self, slot: int) -> int:
        """How many committed tokens the cache lacks, the anchor aside."""
        held = self._held[slot]
        return max(0, held.sequence.start - len(held.tokens)) if held.sequence else 0

    def catch_up(self, sequences: Many[Sequence]) -> None:
        """Decode what the cache lacks, unless it is so little that it comes with the anchor."""
        for sequence in sequences:
            rest = self._rest(sequence)
            end = len(rest.tokens) - 1
            if end <= _BESIDE:
                continue
            for at in range(0, end, self._small.n_batch):
                piece = rest.tokens[at : min(end, at + self._small.n_batch)]
                self._decode([Span(rest.slot, rest.start + at, piece)], outputs=0)

    def rewind(self, slot: int, n: int) -> None:
        """Forget all but the first n positions of a slot."""
        held = self._held[slot]
        held.sequence, held.sure = None, 0
        if n < len(held.tokens):
            self._small.rewind(slot, n)
            del held.tokens[n:]

    def copy(self, source: int, slot: int, n: int) -> None:
        """Let a slot hold what another one does of its first n positions, drafts that may not stay included."""
        self._held[slot] = _Held([])
        self._small.copy(source, slot, n)
        self._held[slot].tokens = self._held[source].tokens[:n]

    def state(self, slot: int, tokens: Many[int], most: int) -> bytearray:
        """The small model's cache of these tokens, as bytes; empty where it never drafted."""
        n = _common(self._held[slot].tokens, tokens)
        self.rewind(slot, n)
        return self._small.state(slot, most) if n else bytearray()

    def restore(self, slot: int, state: bytearray, tokens: Many[int]) -> None:
        """Put a cache back; how far it reaches is in the bytes."""
        self.rewind(slot, 0)
        if state:
            self._held[slot].tokens = list(tokens[: self._small.restore(slot, state)])

    def close(self) -> None:
        """Free the small model."""
        self._small.close()


def _common(a: Many[int], b: Many[int]) -> int:
    """Length of the common prefix."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
