"""The target's decodes of a step: which rows go together, and what is lost when one fails."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from dspark_local.backend.base import FAILURES, Failure, NoRoomError, Rows, Span, alike

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dspark_local.backend.base import Target
    from dspark_local.caches import Caches

_logger = logging.getLogger(__name__)


class Decoding:
    """Decodes spans so that one that cannot run costs no other its text.

    With a fixed `width` every generating decode has so many rows in each slot, `pad` behind the real ones.
    """

    def __init__(self, caches: Caches, *, width: int | None, pad: int) -> None:
        self._caches = caches
        self._width, self._pad = width, pad

    def step(self, target: Target, spans: list[Span], chunks: list[Span]) -> Iterator[tuple[Span, Rows | Failure]]:
        """All rows of a step: `spans` of the round and `chunks` of prompts; each's hold until the next is asked for.

        Prompts go along in the round's decode; before it, if a batch does not hold both, and always one by one where
        the width is fixed, so that a chunk is rounded as it is alone.
        """
        if self._width is not None:
            batches = [*([chunk] for chunk in chunks), spans]
        elif count([*spans, *chunks]) > target.n_batch:
            batches = [*alike(chunks, target), *alike(spans, target)]
        else:
            batches = alike([*spans, *chunks], target)
        for batch in batches:
            yield from self._run(target, batch)

    def _run(self, target: Target, spans: list[Span]) -> Iterator[tuple[Span, Rows | Failure]]:
        """One decode; if it fails, one for each span, so that only those are lost that cannot run."""
        if not spans:
            return
        try:
            rows = self._decode(target, spans)
        except FAILURES as error:
            _logger.warning("a decode of %d sequences failed: %s", len(spans), error)
            if isinstance(error, NoRoomError):
                self._caches.make_room()
            for span in spans:
                yield span, self._alone(target, span)
        else:
            yield from zip(spans, rows, strict=True)

    def _alone(self, target: Target, span: Span) -> Rows | Failure:
        try:
            return self._decode(target, [span])[0]
        except FAILURES as error:
            return error

    def _decode(self, target: Target, spans: list[Span]) -> list[Rows]:
        if self._width is None or not spans[0].n_outputs:
            return self._decoded(target, spans)
        return self._padded(target, spans, self._width)

    def _padded(self, target: Target, spans: list[Span], width: int) -> list[Rows]:
        """The same decode at a constant shape: every slot has `width` rows, pads behind the real ones."""
        real = {span.slot: span for span in spans}
        pads = [self._pad] * width
        padded = [
            replace(span, tokens=(*span.tokens, *pads[len(span.tokens) :]))
            for slot in range(target.n_slots)
            for span in (real.get(slot) or Span(slot, self._caches.spare(slot, width), (), keep=False),)
        ]
        rows = self._decoded(target, padded)
        return [_first(rows[span.slot], len(span.tokens)) for span in spans]

    def _decoded(self, target: Target, spans: list[Span]) -> list[Rows]:
        """A decode that leaves no rows behind when it fails, however late."""
        try:
            return target.decode(spans)
        except FAILURES:
            for span in spans:
                if target.rewind(span.slot, span.start) < span.start:
                    self._caches.forget(span.slot)
            raise


def count(spans: list[Span]) -> int:
    """Rows of all of them."""
    return sum(len(span.tokens) for span in spans)


def _first(rows: Rows, n: int) -> Rows:
    return Rows(rows.logits[:n], None if rows.hidden is None else rows.hidden[:n])
