"""What the target makes of its own text: tapped layer inputs and final states, in a memory-mapped cache with a cap.

The texts lie in shards. A shard is read by the target when it is first wanted and kept in one file; when the cap is
reached the shard that was wanted longest ago goes, and is read again should it be wanted again. So disk and memory
are bounded by the cap, however much text there is.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
import numpy.typing as npt

from dspark_local.errors import TrainingError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from dspark_local.backend.base import Floats
    from dspark_local.training.text import Batch, Text

Kept = Literal["bf16", "f32"]
_BYTES = {"bf16": 2, "f32": 4}
SHARE = 8  # of the cap: what one shard takes at most
_LARGEST = 64 << 20  # bytes of a shard, however large the cap: few enough that a step seldom waits for one


class Reads(Protocol):
    """The target, reading (backend.reader)."""

    def read(self, tokens: Sequence[int]) -> tuple[Floats, Floats]:
        """Layer inputs [n, taps · width] and final states [n, width]."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class States:
    """Of a batch: `taps` [n, longest, taps · width] and `final` [n, longest, width], zero where there is no text.

    As float32, or as the upper halves of its bits (bfloat16) in uint16.
    """

    taps: npt.NDArray[np.float32] | npt.NDArray[np.uint16]
    final: npt.NDArray[np.float32] | npt.NDArray[np.uint16]


class StateCache:
    """States of `texts`; `taps` and `width` say how wide a token's are, `cap` how many bytes of them are kept.

    Raises TrainingError where the disk refuses, or a single text is larger than its part of the cap.
    """

    def __init__(
        self, folder: Path, texts: Sequence[Text], reader: Reads, *, taps: int, width: int, cap: int, kept: Kept
    ) -> None:
        self.folder, self._texts, self._reader, self._cap = folder, texts, reader, cap
        self._taps, self._width = taps * width, width
        self._dtype = np.dtype(np.uint16 if kept == "bf16" else np.float32)
        self._row = (self._taps + self._width) * _BYTES[kept]
        self._held: dict[int, int] = {}  # shard → bytes, the one wanted longest ago first
        self.captured = 0  # tokens read so far
        self.peak = 0  # bytes on the disk at most
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for path in (*folder.glob("*.states"), *folder.glob("*.part")):
                path.unlink()  # of a run before: reading again is cheaper than proving that they are these texts'
        except OSError as error:
            raise self._refused(error) from error

    def shards(self, indices: Sequence[int]) -> list[list[int]]:
        """Texts in runs, each within a part of the cap."""
        most = min(self._cap // SHARE, _LARGEST)
        runs: list[list[int]] = []
        room = 0
        for i in indices:
            size = len(self._texts[i]) * self._row
            if size > most:
                raise TrainingError(
                    f"a text of {len(self._texts[i])} tokens takes {size >> 20} MiB of states, and the cache may hold "
                    f"{self._cap >> 20} MiB; raise --cache, or lower --max-tokens"
                )
            if size > room:
                runs.append([])
                room = most
            runs[-1].append(i)
            room -= size
        return runs

    def open(self, shard: Sequence[int]) -> Shard:
        """States of the texts of a shard, read now if they are not kept."""
        key, sizes = shard[0], [len(self._texts[i]) for i in shard]
        path = self.folder / f"{key}.states"
        if key in self._held:
            self._held[key] = self._held.pop(key)
        else:
            self._make_room(sum(sizes) * self._row)
            self._write(path, shard)
            self._held[key] = sum(sizes) * self._row
        starts = np.concatenate([[0], np.cumsum(sizes)]).tolist()
        places = {i: (start, start + n) for i, start, n in zip(shard, starts, sizes, strict=False)}
        shape = (sum(sizes), self._taps + self._width)
        return Shard(np.memmap(path, self._dtype, "r", shape=shape), places, self._taps)

    def close(self) -> None:
        """Remove what is kept."""
        for key in self._held:
            (self.folder / f"{key}.states").unlink(missing_ok=True)
        self._held.clear()

    def _make_room(self, size: int) -> None:
        while self._held and sum(self._held.values()) + size > self._cap:
            oldest = next(iter(self._held))
            del self._held[oldest]
            (self.folder / f"{oldest}.states").unlink(missing_ok=True)
        self.peak = max(self.peak, sum(self._held.values()) + size)

    def _write(self, path: Path, shard: Sequence[int]) -> None:
        beside = path.with_suffix(f".{os.getpid()}.part")
        try:
            with beside.open("wb") as file:
                for rows in self._read(shard):
                    rows.tofile(file)
            beside.replace(path)
        except OSError as error:
            raise self._refused(error) from error
        finally:
            beside.unlink(missing_ok=True)

    def _read(self, shard: Sequence[int]) -> Iterator[npt.NDArray[np.generic]]:
        for i in shard:
            taps, final = self._reader.read(self._texts[i].tokens)
            self.captured += len(taps)
            rows = np.concatenate((taps, final), axis=1)
            yield rows if self._dtype == np.float32 else bfloat16(rows)

    def _refused(self, error: OSError) -> TrainingError:
        why = error.strerror or error
        return TrainingError(f"{self.folder} cannot be written: {why}; make room, or give --cache less")


@dataclass(frozen=True, slots=True, eq=False)
class Shard:
    """A file of states: rows [tokens, taps · width + width], and which of them are whose."""

    rows: npt.NDArray[np.float32] | npt.NDArray[np.uint16]
    places: dict[int, tuple[int, int]]
    taps: int

    def states(self, batch: Batch) -> States:
        """Those of a batch of its texts."""
        n, longest = batch.ids.shape
        both = np.zeros((n, longest, self.rows.shape[1]), self.rows.dtype)
        for row, i in enumerate(batch.texts):
            start, end = self.places[i]
            both[row, : end - start] = self.rows[start:end]
        return States(both[..., : self.taps], both[..., self.taps :])


def bfloat16(values: Floats) -> npt.NDArray[np.uint16]:
    """The upper halves, rounded to the nearest, ties to even."""
    bits = np.ascontiguousarray(values).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def check_head(reader: Heads, head: Callable[[Floats], Floats], tokens: Sequence[int]) -> None:
    """Raise TrainingError unless the head, applied to the final states, gives the target's own logits."""
    _, final = reader.read(tokens)
    theirs, ours = reader.logits(tokens), head(final)
    error = np.sqrt(((theirs - ours) ** 2).mean() / max(1e-12, float(theirs.var())))
    if not error < _HEAD_TOLERANCE:
        raise TrainingError(
            f"the head of this architecture does more than is known here (its logits are off by {error:.0%}), so no "
            "drafter can be trained for it yet"
        )


_HEAD_TOLERANCE = 0.1  # relative; quantised heads multiply with states rounded to 8 bits, which costs one percent


class Heads(Reads, Protocol):
    """A target that also shows its logits."""

    def logits(self, tokens: Sequence[int]) -> Floats:
        """What the head makes of them [n, n_vocab]."""
        ...
