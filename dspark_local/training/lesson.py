"""What is learned from: the target's answers, and those among them that judge."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from dspark_local.errors import TrainingError
from dspark_local.training.answers import is_held_out

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dspark_local.training.text import Text


@dataclass(frozen=True, slots=True, eq=False)
class Lesson:
    """Texts, and the indices of those to learn from and to judge by."""

    texts: Sequence[Text]
    learned: Sequence[int]
    judged: Sequence[int]

    @classmethod
    def of(cls, texts: Sequence[Text]) -> Self:
        """Answers to prompts, in their order. Raises TrainingError where none is fit to learn from, or to judge by."""
        sound = [i for i, text in enumerate(texts) if text.teaches]
        learned = [i for i in sound if not is_held_out(i)]
        judged = [i for i in sound if is_held_out(i)]
        if not learned or not judged:
            raise TrainingError(
                f"of {len(texts)} answers {len(learned)} are fit to learn from and {len(judged)} to judge by (the "
                "others are short, or repeat themselves); give more prompts, or --sampled 1"
            )
        return cls(texts, learned, judged)

    @property
    def longest(self) -> int:
        """Tokens of the longest text that is read."""
        return max(len(self.texts[i]) for i in (*self.learned, *self.judged))

    @property
    def summary(self) -> str:
        """How much there is, in one line."""
        tokens = sum(len(self.texts[i].answer) for i in self.learned)
        left_out = len(self.texts) - len(self.learned) - len(self.judged)
        return (
            f"{len(self.learned)} answers of {tokens} tokens to learn from, {len(self.judged)} to judge by; "
            f"{left_out} are short or repeat themselves, and are left out"
        )
