"""Every run of the tests has caches, settings and data of its own."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import platformdirs
import pytest
from hypothesis import settings

# Before numpy is imported: its matrices are small here, and on two cores BLAS's threads take five times the CPU time.
os.environ["OPENBLAS_NUM_THREADS"] = "1"

# Where tests run side by side, a thread that waits awake holds up the other test.
os.environ["GOMP_SPINCOUNT"] = "1000"

settings.register_profile("untimed", deadline=None)  # a busy machine is no failure
settings.load_profile("untimed")

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    root = str(tmp_path_factory.mktemp("cache"))
    folder = f"{root}/dspark-local"  # where a child process looks too
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(platformdirs, "user_cache_dir", lambda *_: folder)
        patch.setattr(platformdirs, "user_config_dir", lambda *_: folder)
        patch.setattr(platformdirs, "user_data_dir", lambda *_: folder)
        patch.setenv("XDG_CACHE_HOME", root)  # for child processes
        patch.setenv("XDG_CONFIG_HOME", root)
        yield


@pytest.fixture(scope="session", autouse=True)
def _interruptible() -> None:
    """Ctrl-C works, also where the tests run in the background of a shell, which ignores it for them."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
