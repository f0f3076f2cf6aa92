"""An answer on its way, from the question to its end."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from dspark_local.tui.messages import Failed
from dspark_local.tui.reader import read

if TYPE_CHECKING:
    from collections.abc import Callable

    from dspark_local.generation import Generation
    from dspark_local.tui.messages import Told


class Writing:
    """Begun by `start` on a thread, for a long text takes seconds to tokenise; stopped at any moment, also before.

    `within_thoughts`: it goes on with an answer that was cut there.
    """

    def __init__(self, start: Callable[[], Generation], *, within_thoughts: bool = False) -> None:
        self._start = start
        self._within = within_thoughts
        self._generation: Generation | None = None
        self._stopped = False

    def stop(self) -> None:
        """End it after the round that runs."""
        self._stopped = True
        if self._generation:
            self._generation.cancel()

    async def read(self, post: Callable[[Told], object]) -> None:
        """Post what is written and how it ends; cancelling this stops it."""

        def tell(message: Told) -> None:
            message.writing = self
            post(message)

        try:
            await read(await asyncio.to_thread(self._begin), tell, within_thoughts=self._within)
        except Exception as error:  # noqa: BLE001 - whatever it was, the screen goes on and says it
            tell(Failed(error))
        finally:
            self.stop()

    def _begin(self) -> Generation:
        self._generation = generation = self._start()
        if self._stopped:  # the user was faster
            generation.cancel()
        return generation
