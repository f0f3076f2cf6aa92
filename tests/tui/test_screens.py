"""Every screen on two terminals, held against the text that it showed when somebody last looked.

DSPARK_LOOK=1 writes what is seen now to tests/tui/screens: look at the difference before it is committed.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from dspark_local.conversations import Conversations, Turn
from dspark_local.errors import OutOfMemoryError
from dspark_local.outlook import Outlook
from dspark_local.scheduling.cost import CostTable
from dspark_local.scheduling.scheduler import Auto
from dspark_local.testing import scripted_runtime
from dspark_local.tui import Choice, Settings
from dspark_local.tui.app import ChatApp
from dspark_local.tui.screens import models
from dspark_local.tui.shelf import Item
from dspark_local.types import SamplingParams, Stats

from .driver import Chat, chatting, until

if TYPE_CHECKING:
    from collections.abc import Callable

    from dspark_local.runtime import Runtime

FOLDER = Path(__file__).with_name("screens")
SEEDED = Settings(sampling=SamplingParams(seed=5))
GB = 1_000_000_000
CARDS = (
    ("f1", "help", "keys and commands"),
    ("f4", "machine", "TARGET DECODE"),
    ("f6", "models", "5.0 GB to fetch"),
    ("f9", "setup", "min-p"),
)
SIZES = [(60, 20), (120, 40)]
ANSWER = "It removes *common* margins:\n\n```python\ntextwrap.dedent(text)\n```\n\n- everywhere\n- **only** those\n"
_CLOCKED = (  # what depends on the machine and the moment
    (re.compile(r"[▁▂▃▄▅▆▇█]"), " "),
    (re.compile(r"\d+(?=% of time)"), "#"),
    (re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d"), "yyyy-mm-dd hh:mm"),
)


def looked(chat: Chat) -> str:
    """The screen without what the clock decides, nor how wide that was."""
    seen = chat.seen()
    for pattern, instead in _CLOCKED:
        seen = pattern.sub(instead, seen)
    lines = [re.sub(r"(?<=\S) {2,}(?=\S)", "  ", line.rstrip()) for line in seen.splitlines()]
    return "\n".join(lines) + "\n"


def check(chat: Chat, name: str, size: tuple[int, int]) -> None:
    path = FOLDER / f"{name}-{size[0]}x{size[1]}.txt"
    seen = looked(chat)
    if os.environ.get("DSPARK_LOOK"):
        FOLDER.mkdir(exist_ok=True)
        path.write_text(seen, encoding="utf-8")
    assert seen == path.read_text(encoding="utf-8")
    assert not [w for w in chat.app.screen.query("*") if w.display and w.region.right > size[0]]


def forked() -> Conversations:
    store = Conversations(None)
    one = store.create("Dedent, explained", model="m", system="Be brief.", sampling=None)
    asked = store.add(one, Turn(role="user", content="What does dedent do?"))
    store.add(one, Turn(role="assistant", content="Nothing."))
    store.rewind(one, asked)
    store.add(one, Turn(role="assistant", content=ANSWER, thinking="hm, well"))
    return store


@pytest.fixture(autouse=True)
def steady(monkeypatch: pytest.MonkeyPatch) -> None:
    """No speed depends on the machine."""
    monkeypatch.setattr(Stats, "tokens_per_second", property(lambda stats: 100.0 if stats.predicted_n else 0.0))


@pytest.fixture
def shelf(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three models, whatever this machine has."""
    known = [
        Item("demo", "a model of the Python standard library", here=True),
        Item("qwen3-8b", "Qwen3 8B", here=False),
        Item("llama-3-70b", "Llama 3 70B, instruction-tuned; no DSpark drafter is published", here=False),
    ]
    monkeypatch.setattr(models, "items", lambda: known)
    monkeypatch.setattr(models, "outlook", lambda *_: Outlook(5 * GB, 5 * GB, 8 * GB, 90 * GB, drafter=True))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.usefixtures("shelf")
async def test_every_screen_is_as_it_was_when_somebody_looked(size: tuple[int, int]) -> None:
    """The chat empty, answering commands, with an answer, tinted, marked; and every screen over it."""
    with forked() as store:
        async with chatting(scripted_runtime(ANSWER), size=size, store=store, settings=SEEDED) as chat:
            check(chat, "welcome", size)
            await chat.press(*"/m")
            await chat.pilot.pause()
            check(chat, "commands", size)
            await chat.press("ctrl+u", "ctrl+o")
            await chat.until(lambda: "Dedent" in chat.seen() and "Open" in chat.seen())
            check(chat, "chats", size)
            await chat.press("enter")
            await chat.until(lambda: bool(chat.answers))
            await chat.press("alt+up")
            await chat.pilot.pause()
            check(chat, "opened", size)
            chat.dialogue.runtime.policy, before = Auto(CostTable.guess(0.01, gamma=7), 7), chat.dialogue.runtime.policy
            for key, name, whole in CARDS:
                await over(chat, key, name, whole, size)
            chat.dialogue.runtime.policy = before
            await chat.press("ctrl+n")
            await chat.ask("What does dedent do?")
            await chat.answered()
            check(chat, "answered", size)
            await chat.press("ctrl+t")
            await chat.pilot.pause()
            check(chat, "tinted", size)
            await chat.press("ctrl+t")
            await over(chat, "f3", "race", "same text: yes", size)


async def over(chat: Chat, key: str, name: str, whole: str, size: tuple[int, int]) -> None:
    await chat.press(key)
    await chat.until(lambda: whole in chat.seen())
    await chat.pilot.pause()
    check(chat, name, size)
    await chat.press("escape")
    await chat.until(lambda: chat.app.screen is chat.app.screen_stack[1])


@pytest.mark.parametrize("size", SIZES)
async def test_failures_are_as_they_were_when_somebody_looked(size: tuple[int, int]) -> None:
    """A model that does not load, before the first chat; and an answer that breaks off."""

    def refusing(choice: Choice, _progress: Callable[[str, float], None]) -> Runtime:
        raise OutOfMemoryError(f"{choice.model} needs 9000 MiB and 8000 are free; lower --ctx-size to 2048")

    app = ChatApp(refusing, Settings(), lambda: Conversations(None))
    async with app.run_test(size=size) as pilot:
        await until(pilot, lambda: app.screen.has_class("-failed"))
        await pilot.pause()
        check(Chat(app, pilot), "refused", size)
    app.close()
    async with chatting(scripted_runtime(ANSWER, fail_at=6), size=size, settings=SEEDED) as chat:
        await chat.ask("What does dedent do?")
        await chat.answered()
        check(chat, "failed", size)
