"""Minutes of scripted chatting: memory over time, and what the database is worth after kill -9.

A child chats as a user might: asks, stops, answers again, goes on, tints, begins other chats. In the second half it is
killed at random moments and started again on the same file, which is checked every time.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import random
import sqlite3
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, cast

import psutil

from dspark_local.conversations import Conversations
from dspark_local.testing import scripted_runtime
from dspark_local.tui import Settings
from dspark_local.tui.app import ChatApp
from dspark_local.tui.screens.chat import ChatScreen

if TYPE_CHECKING:
    from collections.abc import Callable

    from textual.pilot import Pilot

ANSWER = "It *is* so:\n\n```python\nprint(1)\n```\n\n" * 8
DEEDS = ("escape", "ctrl+r", "f7", "ctrl+t", "alt+left", "alt+up", "ctrl+b", "ctrl+n")


def main() -> None:
    """Print a line every so often, and what the file holds at the end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--every", type=float, default=15.0, help="seconds between two lines")
    parser.add_argument("--kills", type=int, default=10, help="how often the child is killed, in the second half")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        _soak(Path(folder) / "soak.db", 60 * options.minutes, options.every, options.kills)


def _soak(path: Path, seconds: float, every: float, kills: int) -> None:
    began, moments = time.monotonic(), random.Random(7)  # noqa: S311 - moments, no secrets
    child = _start(path)
    while (spent := time.monotonic() - began) < seconds / 2:
        print(f"{spent:6.0f} s  {psutil.Process(child.pid).memory_info().rss / 1e6:6.0f} MB", flush=True)
        time.sleep(every)
    for n in range(kills):
        time.sleep(moments.uniform(0.5, 2) * seconds / 2 / max(1, kills))
        child.kill()
        child.join()
        print(f"kill {n + 1}: {_checked(path)}", flush=True)
        child = _start(path)
    child.kill()
    child.join()


def _start(path: Path) -> multiprocessing.Process:
    child = multiprocessing.get_context("spawn").Process(target=_chat, args=(path,), daemon=True)
    child.start()
    time.sleep(3)  # until it chats
    return child


def _checked(path: Path) -> str:
    with closing(sqlite3.connect(path)) as db:
        (state,) = db.execute("PRAGMA integrity_check").fetchone()
        astray = db.execute("PRAGMA foreign_key_check").fetchall()
        (turns,) = db.execute("SELECT count(*) FROM turns").fetchone()
    return f"integrity {state}, {len(astray)} references astray, {turns} turns"


def _chat(path: Path) -> None:
    app = ChatApp(
        lambda _choice, _progress: scripted_runtime(ANSWER, seconds=0.005), Settings(), lambda: Conversations(path)
    )
    asyncio.run(_chat_on(app))


async def _chat_on(app: ChatApp) -> None:
    chance = random.Random()  # noqa: S311 - as above
    async with app.run_test(size=(100, 30)) as pilot:
        await _until(lambda: isinstance(app.screen, ChatScreen))
        dialogue = cast("ChatScreen", app.screen).dialogue
        while True:
            await _ask(pilot, f"question {chance.random()}")
            await asyncio.sleep(chance.uniform(0, 1))
            for _ in range(chance.randrange(4)):
                await pilot.press(chance.choice(DEEDS))
                await asyncio.sleep(chance.uniform(0, 0.3))
            await _until(lambda: not dialogue.answering)
            if len(dialogue.talk.turns) > 20:
                await pilot.press("ctrl+n")


async def _ask(pilot: Pilot[None], text: str) -> None:
    await pilot.press("ctrl+u", *text, "enter")


async def _until(fact: Callable[[], bool]) -> None:
    while not fact():  # noqa: ASYNC110 - a screen tells nobody
        await asyncio.sleep(0.02)


if __name__ == "__main__":
    main()
