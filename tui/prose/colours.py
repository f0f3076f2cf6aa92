"""Colours of code."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual import highlight

if TYPE_CHECKING:
    from textual.content import Content

_COMMON = ("python", "bash", "json", "javascript", "typescript", "html", "css", "sql", "c", "cpp", "java", "rust", "go")


def coloured(code: str, language: str, theme: type[highlight.HighlightTheme]) -> Content:
    """By its language; one that nobody knows is text."""
    return highlight.highlight(code, language=language or "text", theme=theme)


def warm() -> None:
    """Read the rules of common languages, and where plugins are: up to a tenth of a second each, the first time."""
    for language in (*_COMMON, "no language"):
        coloured("", language, highlight.HighlightTheme)
