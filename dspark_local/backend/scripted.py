"""A public, deterministic stand-in for llama.cpp: users test against it as we do.

It keeps its caches as lists of tokens, so a rewind that goes wrong shows as an AssertionError or other text.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from dspark_local.backend.base import Drafted, Floats, Rows
from dspark_local.errors import BackendError, UsageError
from dspark_local.sampling.dry import find_breakers
from dspark_local.sampling.noise import gumbel

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dspark_local.backend.base import Block, Features, Span
    from dspark_local.sampling.constraint import Constraint
    from dspark_local.sampling.dry import Breakers

LogitsOf = Callable[[tuple[int, ...]], Floats]  # all tokens so far → logits [n_vocab] of the next

PEAK = 30.0  # a logit that every sampler picks over zeros


def random_logits(n_vocab: int, *, seed: int, scale: float = 2.0) -> LogitsOf:
    """A model of noise: logits that are a pure function of the whole prefix."""

    def logits(prefix: tuple[int, ...]) -> Floats:
        return (scale * gumbel(seed, len(prefix), hash(prefix) & 0xFFFFFFFF, np.arange(n_vocab))).astype(np.float32)

    return logits


def script_logits(n_vocab: int, script: Sequence[int], *, after: int, end: int) -> LogitsOf:
    """A model that says `script` behind a prompt of `after` tokens, whatever the sampling, and then `end`."""

    def logits(prefix: tuple[int, ...]) -> Floats:
        said = len(prefix) - after
        return one_hot(n_vocab, script[said] if said < len(script) else end)

    return logits


def one_hot(n_vocab: int, token: int) -> Floats:
    """Logits that make every sampler pick `token`."""
    row = np.zeros(n_vocab, np.float32)
    row[token] = PEAK
    return row


class _Cached:
    """Caches that are lists of tokens, slot by slot."""

    __slots__ = ()
    caches: list[list[int]]

    def rewind(self, slot: int, n: int) -> int:
        """Forget all but the first n positions."""
        assert n <= len(self.caches[slot]), "cannot keep what is not there"
        del self.caches[slot][n:]
        return n

    def copy(self, source: int, slot: int, n: int) -> None:
        """Let a slot hold the first n positions of another one."""
        assert source != slot
        self.caches[slot] = self.caches[source][:n]

    def state(self, slot: int, most: int) -> bytearray:
        """The cache as bytes."""
        state = bytearray(np.array(self.caches[slot], np.int32).tobytes())
        if len(state) > most:
            raise BackendError("the scripted cache is too large")
        return state

    def restore(self, slot: int, state: bytearray) -> int:
        """Put a cache back."""
        self.caches[slot] = np.frombuffer(state, np.int32).tolist()
        return len(self.caches[slot])


@dataclass(slots=True)
class ScriptedTarget(_Cached):
    """A target whose logits are `logits(prefix)`. Its hidden states are the token and its position."""

    logits: LogitsOf
    n_vocab: int
    n_ctx: int = 4096
    n_slots: int = 1
    n_batch: int = 512
    seconds: float = 0.0  # that each decode takes
    taps: bool = True
    forgetful: bool = False
    uniform: bool = False
    windowed: bool = False
    fail_at: int | None = None  # number of the first decode that raises BackendError, tries counted
    fails: int = 1  # how many do so in a row
    tries: int = 0
    busy: float = 0.0
    decodes: list[tuple[int, ...]] = field(default_factory=list)  # widths by slot, one tuple per decode
    caches: list[list[int]] = field(default_factory=list)
    closed: bool = False

    def __post_init__(self) -> None:
        self.caches = [[] for _ in range(self.n_slots)]

    def decode(self, spans: Sequence[Span]) -> list[Rows]:
        """One Rows per span, after checking that each continues its slot's cache."""
        assert not self.closed
        assert 0 < sum(len(s.tokens) for s in spans) <= self.n_batch
        assert len({s.slot for s in spans}) == len(spans)
        assert not self.uniform or len({len(s.tokens) for s in spans}) == 1
        self.tries += 1
        if self.fail_at is not None and self.fail_at < self.tries <= self.fail_at + self.fails:
            raise BackendError("the scripted decode failed")
        self.decodes.append(tuple(len(s.tokens) for s in spans))
        self.busy += _take(self.seconds)
        rows = [self._span(span) for span in spans]
        for span in spans:
            if not span.keep:
                self.rewind(span.slot, span.start)
        return rows

    def _span(self, span: Span) -> Rows:
        cache = self.caches[span.slot]
        assert span.start == len(cache), "positions must continue the cache"
        assert span.start + len(span.tokens) <= self.n_ctx, "the context is full"
        logits = []
        first = len(span.tokens) - span.n_outputs
        for k, token in enumerate(span.tokens):
            cache.append(token)
            if k >= first:
                logits.append(self.logits(tuple(cache)))
        hidden = [(token, span.start + k) for k, token in enumerate(span.tokens)]
        return Rows(
            np.array(logits, np.float32).reshape(-1, self.n_vocab),
            np.array(hidden, np.float32) if self.taps else None,
        )

    def close(self) -> None:
        """Mark it closed."""
        self.closed = True


@dataclass(slots=True)
class ScriptedDraft(_Cached):
    """A draft model over a ScriptedTarget's hidden states.

    Row k of a block is `logits(prefix)` of the prefix that ends with the k most likely tokens before it, as a
    graph that chains by argmax has it. With `candidates` it answers with so many tokens a row where a block lets it.
    """

    logits: LogitsOf
    n_vocab: int
    block_size: int = 7
    n_batch: int = 512
    n_slots: int = 1
    forgetful: bool = False
    confidence: float | None = 0.9
    candidates: int | None = None
    seconds: float = 0.0
    busy: float = 0.0
    caches: list[list[int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.caches = [[] for _ in range(self.n_slots)]

    def inject(self, features: Sequence[Features]) -> None:
        """Take committed tokens, checking that their positions continue the cache."""
        assert 0 < sum(len(f.rows) for f in features) <= self.n_batch
        for feature in features:
            cache = self.caches[feature.slot]
            for token, position in feature.rows:
                assert int(position) == len(cache), "features must continue the drafter's cache"
                cache.append(int(token))

    def draft(self, blocks: Sequence[Block], gamma: int) -> list[Drafted]:
        """γ rows per block."""
        assert 0 < gamma <= self.block_size
        self.busy += _take(self.seconds)
        return [self._block(block, gamma) for block in blocks]

    def _block(self, block: Block, gamma: int) -> Drafted:
        prefix = [*self.caches[block.slot], block.anchor]
        assert block.start == len(prefix) - 1, "the anchor follows what was injected"
        rows = []
        for _ in range(gamma):
            rows.append(self.logits(tuple(prefix)))
            prefix.append(int(np.argmax(rows[-1])))
        confidences = None if self.confidence is None else np.full(gamma, self.confidence, np.float32)
        logits = np.stack(rows)
        if block.whole or not self.candidates:
            return Drafted(logits, confidences)
        ids = np.sort(np.argsort(-logits, axis=1, kind="stable")[:, : self.candidates], axis=1)
        return Drafted(np.take_along_axis(logits, ids, axis=1), confidences, ids=ids)

    def close(self) -> None:
        """Nothing is held."""


def erring(logits: LogitsOf, n_vocab: int, wrong: Callable[[int], bool]) -> LogitsOf:
    """`logits`, but another token where `wrong(length of prefix)` says so: any acceptance pattern can be had."""

    def changed(prefix: tuple[int, ...]) -> Floats:
        row = logits(prefix)
        return one_hot(n_vocab, (int(np.argmax(row)) + 1) % n_vocab) if wrong(len(prefix)) else row

    return changed


class ScriptedVocab:
    """Bytes as tokens, and one more that ends the answer."""

    END = 256
    n_vocab = 257
    suppressed: tuple[int, ...] = ()
    chat_template: str | None = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant: "
    bos = ""
    eos = ""

    def encode(self, text: str, *, special: bool) -> list[int]:  # noqa: ARG002 - it has no control tokens in text
        """UTF-8 bytes."""
        return list(text.encode())

    def piece(self, token: int) -> bytes:
        """The byte."""
        return b"" if token == self.END else bytes([token])

    def is_end(self, token: int) -> bool:
        """Whether it is END."""
        return token == self.END

    def constraint(self, grammar: str) -> Constraint:  # noqa: ARG002 - it has none
        """Grammars are llama.cpp's."""
        raise UsageError("the scripted backend has no grammars")

    def breakers(self, strings: tuple[str, ...]) -> Breakers:
        """Bytes in which these strings occur."""
        pieces = [self.piece(token) for token in range(self.n_vocab)]
        return find_breakers(strings, pieces, lambda text: self.encode(text, special=False))


def _take(seconds: float) -> float:
    if seconds:
        time.sleep(seconds)
    return seconds
