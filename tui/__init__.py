"""The chat in the terminal. The only package that imports Textual."""

from dspark_local.tui.app import run
from dspark_local.tui.settings import Choice, Opener, Settings

__all__ = ["Choice", "Opener", "Settings", "run"]
