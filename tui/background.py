"""Work beside the screen that nobody may have to wait for."""

from __future__ import annotations

import contextvars
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def start(job: Callable[[], None], name: str) -> None:
    """Run `job` on a daemon of our own, not a worker: leaving the program must not wait for a hub or a large model.

    The context is where Textual keeps the app, also for a screen that is gone by then.
    """
    run = contextvars.copy_context().run
    threading.Thread(target=run, args=(job,), name=f"dspark-local-{name}", daemon=True).start()
