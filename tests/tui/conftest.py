"""No test dresses another."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from dspark_local.tui import preferences

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where this test's chat keeps its preferences."""
    path = tmp_path / "preferences" / "chat.json"
    monkeypatch.setattr(preferences, "location", lambda: path)
    return path
