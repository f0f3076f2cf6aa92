"""Target and drafter in llama.cpp."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING

import numpy as np

from dspark_local.backend import symbols
from dspark_local.backend.base import Block, Drafted, Lattice, Rows
from dspark_local.backend.library import api
from dspark_local.backend.memory import Batch, floats
from dspark_local.backend.model import Context, context_params
from dspark_local.backend.taps import taps_for
from dspark_local.backend.topk import TopK
from dspark_local.errors import BackendError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from dspark_local.backend.base import Features, Floats, Shape, Span
    from dspark_local.backend.model import Model
    from dspark_local.formats.dflash import DraftSpec

N_DECODE = 256  # the engine's prefill chunk: compute and tap buffers grow with it
N_INJECT = 512  # rows of an injection
_logger = logging.getLogger(__name__)


class LlamaTarget:
    """The target: a context whose tapped layers are read after every decode."""

    def __init__(self, model: Model, shape: Shape, *, layers: tuple[int, ...] = ()) -> None:
        rows = shape.n_slots * shape.width
        params = context_params(
            n_ctx=shape.n_ctx,
            n_slots=shape.n_slots,
            n_batch=max(N_DECODE, rows),
            n_outputs=rows,
            threads=shape.threads,
            unified=shape.unified,
            kv=shape.kv,
            n_back=shape.width - 1 if model.recurrent else 0,
        )
        self._taps = taps_for(model.arch, layers, model.n_embd) if layers else None
        if self._taps:
            self._taps.prepare(params)
        self.context = Context(model, params, polite=shape.polite)
        if self._taps:
            self._taps.attach(self.context.pointer)
        # llama.cpp runs rows of unequal lengths in several passes, in another order, where streams or states are apart
        self._unified = shape.unified
        self.uniform: bool = model.recurrent or not shape.unified
        self.windowed: bool = api.llama_model_n_swa(model.pointer) > 0
        self.forgetful: bool = model.recurrent or (shape.unified and _gives_away(model, shape))
        self.n_vocab = model.n_vocab
        self.n_slots = shape.n_slots
        self.n_batch = self.context.n_batch
        self.n_ctx: int = api.llama_n_ctx(self.context.pointer) // shape.n_slots
        self._batch = Batch(self.n_batch)

    @property
    def busy(self) -> float:
        """Seconds spent inside decodes."""
        return self.context.busy

    def decode(self, spans: Sequence[Span]) -> list[Rows]:
        """Run the spans in one decode; views of their logits, copies of their hidden states."""
        assert not self.uniform or len({len(span.tokens) for span in spans}) == 1
        passing = [(s, self.context.checkpoint(s.slot)) for s in spans if not s.keep]
        self._batch.clear()
        for span in spans:
            self._batch.add(span.slot, span.start, span.tokens, outputs=span.n_outputs)
        if self._taps:
            self._taps.begin()
        self.context.decode(self._batch)
        for span, state in passing:
            self.context.undo(span.slot, span.start, state)
        return self._rows(spans)

    def _rows(self, spans: Sequence[Span]) -> list[Rows]:
        logits = self._logits(sum(s.n_outputs for s in spans))
        hidden = self._taps.rows(sum(len(s.tokens) for s in spans)) if self._taps else None
        rows, at, out = [], 0, 0
        for span in spans:
            n, wanted = len(span.tokens), span.n_outputs
            rows.append(Rows(logits[out : out + wanted], None if hidden is None else hidden[at : at + n]))
            at, out = at + n, out + wanted
        return rows

    def _logits(self, n: int) -> Floats:
        if not n:
            return np.empty((0, self.n_vocab), np.float32)
        return floats(api.llama_get_logits(self.context.pointer), n, self.n_vocab)

    def rewind(self, slot: int, n: int) -> int:
        """Forget all but the first n positions of a slot, or all; what is left."""
        return self.context.rewind(slot, n)

    def copy(self, source: int, slot: int, n: int) -> None:
        """Let a slot hold the first n positions of another one: for nothing in one stream, else through its bytes.

        llama.cpp copies a stream as a whole, all of its context, and not before its next decode.
        """
        if not self.uniform:
            self.context.copy(source, slot, n)
        else:
            self.context.restore(slot, self.state(source, sys.maxsize))
            self.context.rewind(slot, n)

    def state(self, slot: int, most: int) -> bytearray:
        """What a slot holds, as bytes; of a window, what the next token sees."""
        # at a fixed width a prefix is cut to whole chunks, and a window cannot be cut
        if self.windowed and not (self._unified or self.context.model.recurrent):
            raise BackendError(f"{self.context.model.path.name} has a sliding window, which is kept at no fixed width")
        return self.context.state(slot, most)

    def restore(self, slot: int, state: bytearray) -> int:
        """Let a slot hold a state."""
        return self.context.restore(slot, state)

    def close(self) -> None:
        """Free the context, then the weights."""
        if self.context.pointer:  # others may use the weights, and each closes them once
            self.context.close()
            self.context.model.close()


def _gives_away(model: Model, shape: Shape) -> bool:
    """In a stream that several share, llama.cpp gives a sequence the cells that are behind another one's window."""
    return shape.n_slots > 1 and api.llama_model_n_swa(model.pointer) > 0


class LlamaDraft:
    """A DSpark or DFlash drafter beside its target: an embedding batch injects, a token batch drafts.

    With `candidates` the graph itself picks the likeliest tokens of rows that aren't wanted whole, where it can.
    """

    def __init__(
        self, model: Model, target: LlamaTarget, spec: DraftSpec, shape: Shape, *, candidates: bool = False
    ) -> None:
        self.block_size = spec.block_size if spec.sample_from_anchor else spec.block_size - 1
        self._spec = spec
        self._first = 0 if spec.sample_from_anchor else 1  # row 0 is no prediction otherwise
        rows = shape.n_slots * spec.block_size
        params = context_params(
            n_ctx=target.n_ctx + spec.block_size,
            n_slots=shape.n_slots,
            n_batch=max(N_INJECT, rows),
            n_outputs=rows,
            threads=shape.threads,
            unified=True,
        )
        params.ctx_other = target.context.pointer
        # where the target's cache may be cut, a window cannot be
        self._alone = api.llama_model_n_swa(model.pointer) > 0 and not target.windowed
        self._context = Context(model, params, polite=shape.polite)
        symbols.set_embeddings_nextn(self._context.pointer, True, True)
        api.llama_set_causal_attn(self._context.pointer, spec.causal)
        self._tokens = Batch(rows)
        self.n_batch = self._context.n_batch
        self.forgetful = _gives_away(model, shape)
        self._features = Batch(self.n_batch, width=len(spec.target_layers) * target.context.model.n_embd)
        self._top: TopK | None = None
        if candidates:
            self._pick_candidates(shape.n_slots)

    def _pick_candidates(self, n_slots: int) -> None:
        """Have the graph pick them, tried with all slots at once: no later decode reserves more."""
        self._top = TopK(self._context.pointer, self._context.model.n_vocab)
        try:
            self.draft([Block(slot, 0, 0, whole=False) for slot in range(n_slots)], 1)
        except BackendError as error:
            _logger.warning("%s, so the drafter's are looked for in its logits", error)
            self._top.drop()
            self._top = None

    @property
    def busy(self) -> float:
        """Seconds spent inside decodes."""
        return self._context.busy

    def inject(self, features: Sequence[Features]) -> None:
        """Write hidden states into the cache at their positions, in one decode."""
        self._features.clear()
        for f in features:
            self._features.add(f.slot, f.start, f.rows, outputs=0)
        self._context.decode(self._features)

    def draft(self, blocks: Sequence[Block], gamma: int) -> list[Drafted]:
        """One block of [anchor, mask × …] for each sequence, of one length, and out of the cache again."""
        assert 0 < gamma <= self.block_size
        n = gamma + self._first
        masks = [self._spec.mask_token] * (n - 1)
        self._tokens.clear()
        for block in blocks:
            self._tokens.add(block.slot, block.start, [block.anchor, *masks])
            if self._top:
                self._top.want(block.slot, not block.whole)
        self._context.decode(self._tokens)
        for block in blocks:
            self._context.rewind(block.slot, block.start)
        pointer = self._context.pointer
        logits = floats(api.llama_get_logits(pointer), n * len(blocks), self._context.model.n_vocab)
        beside = self._beside(n * len(blocks))
        drafted = []
        for i, block in enumerate(blocks):
            rows = slice(i * n + self._first, (i + 1) * n)
            found = None if block.whole or not self._top else self._top.rows(rows.start, gamma)
            ids, own = found or (None, logits[rows])
            drafted.append(self._drafted(own, None if beside is None else beside[rows], ids))
        return drafted

    def _beside(self, n: int) -> Floats | None:
        """What the graph says beside logits [n, width]: one confidence, repeated over a row; or DFlash 2's lattice."""
        if not (self._spec.has_confidence_head or self._spec.selector):
            return None
        return floats(symbols.get_embeddings_nextn(self._context.pointer), n, self._context.model.n_embd)

    def _drafted(self, logits: Floats, beside: Floats | None, ids: npt.NDArray[np.int64] | None) -> Drafted:
        k = self._spec.selector
        if beside is None:
            return Drafted(logits, None, ids=ids)
        if not k:
            return Drafted(logits, beside[:, 0], ids=ids)
        scores = beside[:, k : k + k * k].reshape(-1, k, k)
        return Drafted(logits, None, Lattice(beside[:, :k].astype(np.int64), scores))

    def rewind(self, slot: int, n: int) -> int:
        """Forget all but the first n positions of a slot."""
        return self._context.rewind(slot, n)

    def copy(self, source: int, slot: int, n: int) -> None:
        """Let a slot hold the first n positions of another one; all share one stream, so nothing moves."""
        self._context.copy(source, slot, n)

    def state(self, slot: int, most: int) -> bytearray:
        """What a slot holds, as bytes; of a window, what the next token sees."""
        if self._alone:
            raise BackendError(f"{self._context.model.path.name} has a sliding window, and its target has none")
        return self._context.state(slot, most)

    def restore(self, slot: int, state: bytearray) -> int:
        """Let a slot hold a state."""
        return self._context.restore(slot, state)

    def close(self) -> None:
        """Free the context, then the weights."""
        self._context.close()
        if self._top:
            self._top.free()
        self._context.model.close()
