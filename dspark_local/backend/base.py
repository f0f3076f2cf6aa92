"""What the engine and the drafters need of a model: Protocols, and the records that they speak in.

Arrays that a decode returns may be views into the backend's buffers: they hold until its next call.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from dspark_local.errors import BackendError, DSparkError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dspark_local.sampling.constraint import Constraint
    from dspark_local.sampling.dry import Breakers

Floats = npt.NDArray[np.float32]


# What may go wrong in a decode, and costs no more than who is in it.
Failure = DSparkError | MemoryError
FAILURES = (DSparkError, MemoryError)


class NoRoomError(BackendError):
    """The KV cache has no place for a batch; with less in it, or a smaller batch, it might."""

    code = "no_room"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What the two contexts share: positions per slot, slots, rows per slot in a round, threads.

    `unified` puts all slots into one KV stream, which is faster; separate streams make a slot's rounding
    independent of its neighbours (fixed-width mode). `kv` is the type of the target's keys and values, f16 or q8_0.
    `polite` decodes use fewer threads while other programs keep cores busy.
    """

    n_ctx: int
    n_slots: int = 1
    width: int = 1
    threads: int = 1
    unified: bool = True
    kv: str = "f16"
    polite: bool = False


@dataclass(frozen=True, slots=True)
class Span:
    """Consecutive tokens of one slot, the first at absolute position `start`.

    `outputs` is how many of them, the last ones, logits are wanted of; None is all.
    """

    slot: int
    start: int
    tokens: Sequence[int]
    outputs: int | None = None
    keep: bool = True  # False for pads in a slot that has no part in the round: they leave the cache at once

    @property
    def n_outputs(self) -> int:
        """Rows of logits that a decode of it yields."""
        return len(self.tokens) if self.outputs is None else self.outputs


@dataclass(frozen=True, slots=True)
class Rows:
    """What a target decode yields for one span, row by row in its order.

    `logits` [n_outputs, n_vocab]; `hidden` [n, taps · width], the tapped layers' inputs side by side, or None when
    nothing is tapped.
    """

    logits: Floats
    hidden: Floats | None = None


@dataclass(frozen=True, slots=True)
class Features:
    """Hidden states of committed tokens on their way into the drafter's cache: rows [n, taps · width]."""

    slot: int
    start: int
    rows: Floats


@dataclass(frozen=True, slots=True)
class Block:
    """Request for one draft block: the anchor and its absolute position.

    Whoever asks for it looks at the likeliest `MOST` tokens of each row only (backend.candidates) if it isn't `whole`.
    """

    slot: int
    start: int
    anchor: int
    whole: bool = True


@dataclass(frozen=True, slots=True)
class Lattice:
    """What DFlash 2 chooses from: candidates `ids` [γ, k], and `scores` [γ, k, k] of each row's.

    `scores[i, p]` are those behind candidate p of the row before; in row 0 every p stands for the anchor.
    """

    ids: npt.NDArray[np.int64]
    scores: Floats


@dataclass(frozen=True, slots=True)
class Drafted:
    """One block as the drafter's graph proposes it.

    `logits` [γ, n_vocab], row k biased by the graph's own greedy choice before it; `confidences` [γ], c_k of
    [P §3.2.1], or None without a confidence head; `lattice` of a DFlash 2 drafter only. Of a block that isn't whole
    there may be `ids` [γ, n], ascending, of the likeliest tokens: then `logits` [γ, n] are theirs.
    """

    logits: Floats
    confidences: Floats | None
    lattice: Lattice | None = None
    ids: npt.NDArray[np.int64] | None = None


@dataclass(frozen=True, slots=True)
class Rebased:
    """A row of a block behind another token than the graph's: its candidates' logits [n], and c_k."""

    logits: Floats
    confidence: float


class Cached(Protocol):
    """A model with a KV cache for each of its slots."""

    @property
    def busy(self) -> float:
        """Seconds spent inside the model's decodes so far."""
        ...

    def rewind(self, slot: int, n: int) -> int:
        """Forget all but the first n positions of a slot, or all where a cache cannot go back; how many are left."""
        ...

    def copy(self, source: int, slot: int, n: int) -> None:
        """Let a slot hold the first n positions of another one, or as many as that holds, and nothing else.

        Raises BackendError where caches cannot be copied; the slot is then empty.
        """
        ...

    def state(self, slot: int, most: int) -> bytearray:
        """What a slot holds, as bytes for `restore`.

        Raises BackendError if they are more than `most`, or a cache cannot be taken out whole.
        """
        ...

    def restore(self, slot: int, state: bytearray) -> int:
        """Let a slot hold what `state` said of some slot of such a context, and nothing else: so many positions.

        Raises BackendError if it does not fit; the slot is then empty. They must be bytes that `state` returned:
        llama.cpp hardly checks them.
        """
        ...

    def close(self) -> None:
        """Free what is held; twice is fine."""
        ...


class Target(Cached, Protocol):
    """The model whose text is wanted, with a KV cache for each of its slots.

    `n_ctx` positions that one slot holds; `n_vocab` width of a logits row; `n_slots` sequences held at once;
    `n_batch` most tokens in one decode, which are of equal length for each slot if it is `uniform`. `forgetful`: what
    came before the end of a slot's cache may be gone, behind a sliding window or into a state, so that it goes on only
    where it ends. So much goes back all the same: what a decode of a slot's rows added, but for the first, and once.
    `windowed`: a slot's state as bytes holds no more than a window does, so that a slot which was restored goes on
    where the state ends, or behind it, and never back.
    """

    n_ctx: int
    n_vocab: int
    n_slots: int
    n_batch: int
    forgetful: bool
    uniform: bool
    windowed: bool

    def decode(self, spans: Sequence[Span]) -> list[Rows]:
        """Run the spans in one decode and keep their keys and values; one Rows per span, in order.

        Raises BackendError when the model fails, NoRoomError where the cache is full; the caches are then as before, or
        empty where they cannot go back.
        """
        ...


def alike(spans: Sequence[Span], target: Target) -> list[list[Span]]:
    """The spans that may go into one decode together, and how many decodes that are."""
    if not target.uniform:
        return [list(spans)]
    lengths = dict.fromkeys(len(span.tokens) for span in spans)
    return [[span for span in spans if len(span.tokens) == n] for n in lengths]


class Draft(Cached, Protocol):
    """A drafter's model beside its target, with a cache of its own for the same slots.

    `block_size` is the most tokens in one block, `n_batch` the most rows in one injection; `forgetful` as in Target.
    """

    block_size: int
    n_batch: int
    forgetful: bool

    def inject(self, features: Sequence[Features]) -> None:
        """Write the target's hidden states of committed tokens into the cache.

        Raises BackendError when the model fails; the cache is then as before the call.
        """
        ...

    def draft(self, blocks: Sequence[Block], gamma: int) -> list[Drafted]:
        """Draft γ tokens after each anchor in one decode; the cache is left as before the call.

        Raises BackendError when the model fails.
        """
        ...


class Vocab(Protocol):
    """Text to tokens and back, and what of the samplers goes by a token's text. Tokens are target token ids."""

    n_vocab: int
    suppressed: tuple[int, ...]  # never to be written
    chat_template: str | None
    bos: str
    eos: str

    def encode(self, text: str, *, special: bool) -> list[int]:
        """Tokens of `text`; `special` says whether the names of control tokens in it count as such."""
        ...

    def piece(self, token: int) -> bytes:
        """UTF-8 bytes of a token, possibly a part of a character; empty for control tokens."""
        ...

    def is_end(self, token: int) -> bool:
        """Whether the target ends its answer with this token."""
        ...

    def constraint(self, grammar: str) -> Constraint:
        """A GBNF grammar's beginning. Raises UsageError for one that is faulty or that no token can begin."""
        ...

    def breakers(self, strings: tuple[str, ...]) -> Breakers:
        """Where these strings occur in the text of tokens (sampling.dry)."""
        ...
