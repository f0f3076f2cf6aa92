"""Every run of the tests has caches, settings and data of its own."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import platformdirs
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder = str(tmp_path_factory.mktemp("cache"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(platformdirs, "user_cache_dir", lambda *_: folder)
        patch.setattr(platformdirs, "user_config_dir", lambda *_: folder)
        patch.setattr(platformdirs, "user_data_dir", lambda *_: folder)
        patch.setenv("XDG_CACHE_HOME", folder)  # for child processes
        patch.setenv("XDG_CONFIG_HOME", folder)
        yield


@pytest.fixture(scope="session", autouse=True)
def _interruptible() -> None:
    """Ctrl-C works, also where the tests run in the background of a shell, which ignores it for them."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
