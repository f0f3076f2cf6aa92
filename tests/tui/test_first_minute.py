"""The real program in a real terminal, with the demo pair."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from .terminal import MISSING, Terminal

pytestmark = pytest.mark.skipif(bool(MISSING), reason=MISSING)
LIST = Path(__file__).parents[2] / "docs" / "first-minute.md"
_ROW = re.compile(r"\| (?P<keys>.*?) ?\| (?P<seen>.*?) ?\|")
_COLOUR = re.compile(r"\x1b\[[\d;]*\b(?:3[0-7]|4[0-7]|9[0-7]|10[0-7]|[34]8;[25])\b[\d;]*m")


def steps() -> list[tuple[str, str]]:
    rows = [_ROW.fullmatch(line) for line in LIST.read_text(encoding="utf-8").splitlines()]
    return [(row["keys"], row["seen"]) for row in rows if row][1:]


def test_the_first_minute_is_as_it_is_written_down(tmp_path: Path) -> None:
    """Every line of docs/first-minute.md: its keys are typed, and its words are seen. The last one quits."""
    assert len(steps()) > 20
    with Terminal(tmp_path) as terminal:
        for keys, seen in steps():
            if keys:
                terminal.type(keys.replace("Ctrl+", "C-").replace("Alt+", "M-") if "+" in keys else keys)
            if seen:
                terminal.until(seen)
        assert terminal.ends() == 0


def test_no_color_and_no_motion_are_obeyed(tmp_path: Path) -> None:
    """On the smallest terminal: not one colour is set, and at rest nothing on the screen changes."""
    with Terminal(tmp_path, size=(60, 20), environment=("NO_COLOR=1", "TEXTUAL_ANIMATIONS=none")) as terminal:
        terminal.until("Ask something below.")
        terminal.type("How do I read a file?", "Enter")
        terminal.until("tokens ·")
        terminal.type("C-o")
        terminal.until("How do I read a file?")
        assert not _COLOUR.findall(terminal.seen("-e"))
        terminal.type("Escape")
        terminal.until("chats", gone=True)
        time.sleep(1)  # until all is painted
        first = terminal.seen("-e")
        for _ in range(6):  # longer than a cursor's blink
            time.sleep(0.2)
            assert terminal.seen("-e") == first
