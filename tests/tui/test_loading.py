"""The loading screen: progress, failure, retry, leaving early."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

import pytest
from textual.widgets import ProgressBar

from dspark_local.conversations import Conversations
from dspark_local.errors import ModelNotFoundError
from dspark_local.testing import scripted_runtime
from dspark_local.tui import Choice, Settings, run
from dspark_local.tui.app import ChatApp
from dspark_local.tui.screens.chat import ChatScreen
from dspark_local.tui.screens.loading import LoadingScreen

from .driver import PATIENCE, Chat, chatting, until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from dspark_local.runtime import Runtime


async def test_progress_is_shown_while_the_screen_stays_alive() -> None:
    """Stage and share follow the loader, which runs beside the screen."""
    go = threading.Event()

    def opener(_choice: Choice, progress: Callable[[str, float], None]) -> Runtime:
        progress("loading the target", 0.5)
        go.wait(PATIENCE)
        return scripted_runtime()

    app = ChatApp(opener, Settings(), lambda: Conversations(None))
    async with app.run_test() as pilot:
        await until(pilot, lambda: isinstance(app.screen, LoadingScreen))
        await until(pilot, lambda: app.screen.query_one(ProgressBar).progress == 0.5)
        seen = "\n".join(strip.text for strip in app.screen._compositor.render_strips())
        assert "loading the target" in seen
        go.set()
        await until(pilot, lambda: isinstance(app.screen, ChatScreen))
    app.close()


async def test_a_failure_is_told_and_can_be_tried_again() -> None:
    """One line, no traceback; `r` loads anew."""
    tries: list[int] = []

    def opener(_choice: Choice, _progress: Callable[[str, float], None]) -> Runtime:
        tries.append(1)
        if len(tries) == 1:
            raise ModelNotFoundError("no such file: a.gguf")
        return scripted_runtime()

    app = ChatApp(opener, Settings(), lambda: Conversations(None))
    async with app.run_test() as pilot:
        await until(pilot, lambda: app.screen.has_class("-failed"))
        await pilot.pause()
        seen = "\n".join(strip.text for strip in app.screen._compositor.render_strips())
        assert "no such file: a.gguf" in seen
        assert "Traceback" not in seen
        await pilot.press("r")
        await until(pilot, lambda: isinstance(app.screen, ChatScreen))
        assert app.error is None
    app.close()


def test_leaving_after_a_failure_raises_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the command line can end with its one line and exit code."""

    def opener(_choice: Choice, _progress: Callable[[str, float], None]) -> Runtime:
        raise ModelNotFoundError("no such file: a.gguf")

    async def press(pilot: object) -> None:
        app = pilot.app  # type: ignore[attr-defined]
        await until(pilot, lambda: app.screen.has_class("-failed"))  # type: ignore[arg-type]
        await pilot.press("escape")  # type: ignore[attr-defined]

    original = ChatApp.run
    monkeypatch.setattr(ChatApp, "run", lambda self: original(self, headless=True, auto_pilot=press))
    with pytest.raises(ModelNotFoundError, match=r"a\.gguf"):
        run(opener, Settings())


async def test_a_pair_that_arrives_after_the_user_left_is_closed() -> None:
    """Leaving does not wait for the loader, and the loader leaves nothing open."""
    go, runtime = threading.Event(), scripted_runtime()

    def opener(_choice: Choice, _progress: Callable[[str, float], None]) -> Runtime:
        go.wait(PATIENCE)
        return runtime

    app = ChatApp(opener, Settings(), lambda: Conversations(None))
    async with app.run_test() as pilot:
        await until(pilot, lambda: isinstance(app.screen, LoadingScreen))
        await pilot.press("escape")
        await until(pilot, lambda: not app.is_running)
    app.close()
    go.set()
    runtime._worker._thread.join(PATIENCE)
    assert not runtime._worker._thread.is_alive()


async def test_warnings_of_the_library_are_notices() -> None:
    """A log line appears on the screen instead of across it; llama.cpp's own does not."""
    async with chatting(scripted_runtime()) as chat:
        logging.getLogger("dspark_local.loading").warning("slower than it could be")
        logging.getLogger("dspark_local.llama").warning("chatter")
        await chat.until(lambda: chat.notices() == ["slower than it could be"])


async def test_without_a_place_to_keep_it_the_chat_is_not_saved_and_says_so(tmp_path: Path) -> None:
    """A damaged file is no reason not to talk."""
    path = tmp_path / "c.db"
    path.write_bytes(b"no database at all" * 100)
    app = ChatApp(lambda _choice, _progress: scripted_runtime("Yes."), Settings(), lambda: Conversations(path))
    async with app.run_test(notifications=True) as pilot:
        await until(pilot, lambda: isinstance(app.screen, ChatScreen))
        chat = Chat(app, pilot)
        await chat.until(lambda: bool(chat.notices()))
        assert "is damaged; move it away" in chat.notices()[0]
        await chat.ask("One?")
        await chat.answered()
        assert chat.answers[0].text == "Yes."
    app.close()
    assert path.read_bytes().startswith(b"no database")
