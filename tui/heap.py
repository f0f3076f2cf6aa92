"""When the garbage collector looks at all of the heap: between answers, for it takes as long as some frames."""

from __future__ import annotations

import gc

_NEVER = 1 << 30


class Heap:
    """Python's own, while a chat is on the screen."""

    def __init__(self) -> None:
        self._before = gc.get_threshold()

    def settle(self) -> None:
        """What there is now stays, and is looked at no more; what comes only when somebody says so."""
        gc.freeze()
        gc.set_threshold(*self._before[:2], _NEVER)

    @staticmethod
    def sweep() -> None:
        """Let go of what nobody holds."""
        gc.collect()

    def release(self) -> None:
        """Leave it to Python again."""
        gc.set_threshold(*self._before)
