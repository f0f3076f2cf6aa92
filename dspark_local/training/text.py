"""What the target said: token ids of prompts and answers, and which of them are worth learning from."""

from __future__ import annotations

import json
from array import array
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Self

import numpy as np
import numpy.typing as npt

from dspark_local.bench.loops import loops

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_SHORTEST = 8


@dataclass(frozen=True)
class Text:
    """Ids of a prompt and of its answer, of which the target `ended` the second itself, drawn at `temperature`.

    Four bytes an id: all texts are held in memory.
    """

    prompt: array[int]
    answer: array[int]
    ended: bool
    temperature: float

    def __len__(self) -> int:
        return len(self.prompt) + len(self.answer)

    @classmethod
    def said(cls, prompt: Iterable[int], answer: Iterable[int], *, ended: bool, temperature: float) -> Self:
        """From ids of any kind."""
        return cls(array("i", prompt), array("i", answer), ended, temperature)

    @property
    def tokens(self) -> array[int]:
        """Both."""
        return self.prompt + self.answer

    @cached_property
    def loops(self) -> bool:
        """Whether the answer does: such text is easy to foresee, and no lesson."""
        return loops(self.answer)

    @property
    def teaches(self) -> bool:
        """Whether it is long enough, and does not loop."""
        return len(self.answer) > _SHORTEST and not self.loops

    def line(self) -> str:
        """As JSON."""
        fields = [self.prompt.tolist(), self.answer.tolist(), int(self.ended), self.temperature]
        return json.dumps(fields, separators=(",", ":"))

    @classmethod
    def of(cls, line: str) -> Self:
        """What `line` wrote. Raises ValueError, TypeError or OverflowError for anything else."""
        prompt, answer, ended, temperature = json.loads(line)
        return cls.said(prompt, answer, ended=bool(ended), temperature=float(temperature))


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Texts side by side, padded on the right.

    `texts` are their indices; `ids` [n, longest]; `learn` [n, longest], whether an id is of an answer.
    """

    texts: tuple[int, ...]
    ids: npt.NDArray[np.int64]
    learn: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, texts: Sequence[Text], indices: Sequence[int], *, step: int = 1) -> Batch:
        """These texts; the width is a multiple of `step`."""
        chosen = [texts[i] for i in indices]
        width = -(-max(map(len, chosen)) // step) * step
        ids, learn = np.zeros((len(chosen), width), np.int64), np.zeros((len(chosen), width), np.bool_)
        for row, text in enumerate(chosen):
            ids[row, : len(text)] = text.tokens
            learn[row, len(text.prompt) : len(text)] = True
        return cls(tuple(indices), ids, learn)


def batches(
    texts: Sequence[Text], indices: Sequence[int], *, tokens: int, seed: Sequence[int], step: int = 32
) -> list[Batch]:
    """All texts of `indices` in batches of like length, of at most `tokens` ids with the padding, or of one text.

    What meets in a batch, and their order, is drawn anew for each seed.
    """
    rng = np.random.default_rng(seed)
    lengths = np.array([len(texts[i]) for i in indices])
    order = np.argsort(lengths * rng.uniform(0.85, 1.15, len(lengths)), kind="stable")
    groups: list[list[int]] = [[]]
    longest = 0
    for at in order.tolist():
        longest = max(longest, -(-int(lengths[at]) // step) * step)
        if groups[-1] and longest * (len(groups[-1]) + 1) > tokens:
            groups.append([])
            longest = -(-int(lengths[at]) // step) * step
        groups[-1].append(indices[at])
    made = [Batch.of(texts, group, step=step) for group in groups if group]
    return [made[i] for i in rng.permutation(len(made))]
