"""A model on its way from the hub, while the chat goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dspark_local.errors import DSparkError
from dspark_local.models.locations import find
from dspark_local.tui import background
from dspark_local.tui.messages import Pulled

if TYPE_CHECKING:
    from collections.abc import Callable


class CancelledError(DSparkError):
    """The user stopped it; what has arrived is kept."""


class Pull:
    """Fetches a model and its drafter on a thread; `stage` and `share` (0 to 1) say how far it is.

    Posts Pulled when it has ended, unless it was cancelled.
    """

    def __init__(self, model: str, drafter: str, post: Callable[[Pulled], object]) -> None:
        self.model = model
        self.stage = "asking the hub"
        self.share = 0.0
        self._drafter = drafter
        self._post = post
        self._cancelled = False
        background.start(self._run, "pull")

    def cancel(self) -> None:
        """Stop with the next piece that arrives; another pull goes on from there."""
        self._cancelled = True

    def _run(self) -> None:
        try:
            find(self.model, self._drafter, self._tell)
        except Exception as error:  # noqa: BLE001 - whatever it was, the screen says it
            if not self._cancelled:
                self._post(Pulled(self.model, error))
        else:
            self._post(Pulled(self.model, None))

    def _tell(self, stage: str, share: float) -> None:
        if self._cancelled:
            raise CancelledError("the download was stopped; another one goes on where it was")
        self.stage, self.share = stage, share
