"""What the chat remembers of its user between two starts."""

from __future__ import annotations

import json
import logging
import os
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import platformdirs

if TYPE_CHECKING:
    from typing import Self

_logger = logging.getLogger(__name__)


def location() -> Path:
    """Where a user's preferences are kept."""
    return Path(platformdirs.user_config_dir("dspark-local")) / "chat.json"


@dataclass(frozen=True, slots=True)
class Preferences:
    """The theme; None where nothing was chosen."""

    theme: str | None = None

    @classmethod
    def recall(cls, path: Path) -> Self:
        """What was kept; nothing of a file that cannot be read, or that another version wrote otherwise."""
        try:
            kept = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return cls()
        theme = kept.get("theme") if isinstance(kept, dict) else None
        return cls(theme if isinstance(theme, str) else None)

    def keep(self, path: Path, *, theme: str) -> Self:
        """These with another theme, written at once; a place that cannot be written is told in the log."""
        changed = replace(self, theme=theme)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, beside = tempfile.mkstemp(dir=path.parent, suffix=".part")
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump(asdict(changed), file)
            Path(beside).replace(path)
        except OSError as error:
            _logger.warning("%s cannot be written, so the theme is not remembered: %s", path, error.strerror)
        return changed
