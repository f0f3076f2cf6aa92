"""What restricts the text beyond its distribution: a grammar, as the rule sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, Self

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


class Constraint(Protocol):
    """A state behind some text, and the tokens that may follow it."""

    def allowed(self, tokens: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Whether each of these tokens may come next; shape of `tokens`."""
        ...

    def accept(self, token: int) -> None:
        """Go on behind a token, which must be allowed."""
        ...

    def copy(self) -> Self:
        """The same state, to go on elsewhere."""
        ...
