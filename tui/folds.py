"""Long texts in a prompt: a mark stands for each, so that the screen does not wrap a megabyte with every key."""

from __future__ import annotations

from dspark_local.tui.wording import count

MOST = 10_000  # characters that stand in a prompt as they are


class Folds:
    """What marks stand for."""

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}

    def fold(self, text: str) -> str:
        """The text, or a mark for one that is long."""
        if len(text) <= MOST:
            return text
        mark = f"[text {len(self._texts) + 1}: {count(len(text.splitlines()), 'line')}]"
        self._texts[mark] = text
        return mark

    def unfold(self, text: str) -> str:
        """With what its marks stand for; a mark that was changed is a text like any other."""
        parts: list[str] = []
        while found := min(((at, mark) for mark in self._texts if (at := text.find(mark)) >= 0), default=None):
            at, mark = found
            parts += text[:at], self._texts[mark]
            text = text[at + len(mark) :]
        return "".join([*parts, text])
