"""A text as the rule sees it: picks token after token, each behind those before it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dspark_local.sampling.constraint import Constraint
    from dspark_local.sampling.rule import Sampler
    from dspark_local.sampling.truncation import Ids, Logits


@dataclass(slots=True)
class Walk:
    """A sampler behind some text: at `position`, with as much of the text as its penalties see.

    `stuck` once the constraint allowed no token.
    """

    sampler: Sampler
    position: int
    recent: list[int]
    constraint: Constraint | None
    window: int  # tokens that penalties see, −1 for all
    stuck: bool = False

    @classmethod
    def begin(cls, sampler: Sampler, tokens: Sequence[int]) -> Walk:
        """Behind a prompt, which counts for penalties and not for the constraint."""
        constraint = sampler.constraint.copy() if sampler.constraint else None
        window = sampler.params.looks_back
        return cls(sampler, len(tokens), list(_last(tokens, window)), constraint, window)

    def fork(self) -> Walk:
        """Another one from here."""
        constraint = self.constraint.copy() if self.constraint else None
        return Walk(self.sampler, self.position, self.recent[:], constraint, self.window, self.stuck)

    def pick(self, logits: Logits, ids: Ids | None = None) -> int | None:
        """The next token, picked and gone past; None if there is none, and nothing changes but `stuck`.

        `logits` and `ids` as in Sampler.pick.
        """
        token = self.sampler.pick(logits, self.position, ids=ids, recent=self.recent, constraint=self.constraint)
        if token is None:
            self.stuck = True
            return None
        self.position += 1
        if self.constraint:
            self.constraint.accept(token)
        if self.window:
            self.recent.append(token)
            if 0 < self.window < len(self.recent):
                del self.recent[0]
        return token


def _last(tokens: Sequence[int], n: int) -> Sequence[int]:
    """The last n; all of them if n is negative."""
    return tokens if n < 0 else tokens[max(0, len(tokens) - n) :]
