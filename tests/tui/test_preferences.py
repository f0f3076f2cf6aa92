"""What the chat remembers between two starts, and what it obeys of the environment."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from dspark_local.testing import scripted_runtime
from dspark_local.tui.preferences import Preferences

from .driver import chatting

if TYPE_CHECKING:
    from pathlib import Path


async def test_the_theme_is_worn_again(remembered: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However it was chosen; the environment goes before it."""
    async with chatting(scripted_runtime("Yes.")) as chat:
        before = chat.app.theme
        chat.prompt.insert("/theme ansi-light")
        await chat.press("enter")
        await chat.until(remembered.exists)
    async with chatting(scripted_runtime("Yes.")) as chat:
        assert chat.app.theme == "ansi-light"
    monkeypatch.setenv("TEXTUAL_THEME", before)
    async with chatting(scripted_runtime("Yes.")) as chat:
        assert chat.app.theme == before


@pytest.mark.parametrize("kept", ["", "{", "[1]", '{"theme": 3}', '{"theme": "gone", "more": 1}'])
async def test_what_was_written_otherwise_is_no_trouble(kept: str, remembered: Path, tmp_path: Path) -> None:
    """Nor a theme that there is not any more."""
    (tmp_path / "preferences").mkdir()
    remembered.write_text(kept)  # noqa: ASYNC240 - nothing runs yet
    async with chatting(scripted_runtime("Yes.")) as chat:
        assert chat.app.theme == "textual-dark"


def test_a_place_that_cannot_be_written_is_told_in_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """And the chat wears the theme all the same."""
    (tmp_path / "file").write_text("")
    assert Preferences().keep(tmp_path / "file" / "chat.json", theme="nord").theme == "nord"
    assert "is not remembered" in caplog.text


def test_nothing_half_written_is_left(tmp_path: Path) -> None:
    """One file, whole."""
    Preferences().keep(tmp_path / "chat.json", theme="nord")
    assert [path.name for path in tmp_path.iterdir()] == ["chat.json"]
    assert Preferences.recall(tmp_path / "chat.json").theme == "nord"
