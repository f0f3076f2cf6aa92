"""An hour of scripted chatting: memory over time, and what the database is worth after kill -9.

Two children chat as users might: ask, stop, answer again, go on, tint, begin other chats. One is left alone, and its
memory is printed; the other is killed at random moments and started again on the same file, which is checked each time.
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

    from dspark_local import Runtime
    from dspark_local.backend.scripted import ScriptedTarget

ANSWER = "It *is* so:\n\n```python\nprint(1)\n```\n\n" * 8
DEEDS = ("escape", "ctrl+r", "f7", "ctrl+t", "alt+left", "alt+up", "ctrl+b", "ctrl+n")


def main() -> None:
    """Print a line every so often, and what the file holds at the end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--every", type=float, default=60.0, help="seconds between two lines")
    parser.add_argument("--kills", type=int, default=30, help="how often the other child is killed")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        _soak(Path(folder), 60 * options.minutes, options.every, options.kills)


def _soak(folder: Path, seconds: float, every: float, kills: int) -> None:
    began, moments = time.monotonic(), random.Random(7)  # noqa: S311 - moments, no secrets
    deaths = sorted(moments.uniform(10, seconds) for _ in range(kills))
    steady, file = _start(folder / "steady.db"), folder / "killed.db"
    victim = _start(file)
    told = every
    while (spent := time.monotonic() - began) < seconds:
        if spent >= told:
            memory = psutil.Process(steady.pid).memory_info().rss / 1e6
            print(f"{spent / 60:5.1f} min  {memory:6.1f} MB  {_turns(folder / 'steady.db')} turns", flush=True)
            told += every
        if deaths and spent >= deaths[0]:
            victim.kill()
            victim.join()
            print(f"kill {kills - len(deaths) + 1}: {_checked(file)}", flush=True)
            deaths.pop(0)
            victim = _start(file)
        time.sleep(0.05)
    for child in (steady, victim):
        child.kill()
        child.join()


def _start(path: Path) -> multiprocessing.Process:
    child = multiprocessing.get_context("spawn").Process(target=_chat, args=(path,), daemon=True)
    child.start()
    return child


def _turns(path: Path) -> int:
    with closing(sqlite3.connect(path)) as db:
        (turns,) = db.execute("SELECT count(*) FROM turns").fetchone()
    return int(turns)


def _checked(path: Path) -> str:
    with closing(sqlite3.connect(path)) as db:
        (state,) = db.execute("PRAGMA integrity_check").fetchone()
        astray = db.execute("PRAGMA foreign_key_check").fetchall()
        (turns,) = db.execute("SELECT count(*) FROM turns").fetchone()
    return f"integrity {state}, {len(astray)} references astray, {turns} turns"


def _chat(path: Path) -> None:
    app = ChatApp(lambda _choice, _progress: _fake(), Settings(), lambda: Conversations(path))
    asyncio.run(_chat_on(app))


def _fake() -> Runtime:
    runtime = scripted_runtime(ANSWER, seconds=0.005)
    cast("ScriptedTarget", runtime._engine.target).decodes = _Unkept()  # noqa: SLF001 - the fake's, not the chat's
    return runtime


class _Unkept(list[tuple[int, ...]]):
    """What a fake notes down for tests would look like a leak of a megabyte a minute."""

    def append(self, _entry: tuple[int, ...], /) -> None:
        """Note nothing."""


async def _chat_on(app: ChatApp) -> None:
    chance = random.Random()  # noqa: S311 - as above
    async with app.run_test(size=(100, 30)) as pilot:
        await _until(lambda: isinstance(app.screen, ChatScreen))
        dialogue = cast("ChatScreen", app.screen).dialogue
        while True:
            await _ask(pilot, f"q{chance.randrange(1000)}")
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
