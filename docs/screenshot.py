"""Remake docs/screenshot.svg: the chat on the demo pair, driven as a user would.

python docs/screenshot.py [QUESTION ...] [--model MODEL] [--size COLUMNSxROWS] [--output FILE]
"""

# ruff: noqa: INP001 - a script, not a package
from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dspark_local import load
from dspark_local.conversations import Conversations
from dspark_local.tui import Choice, Settings
from dspark_local.tui.app import ChatApp
from dspark_local.tui.screens.chat import ChatScreen

if TYPE_CHECKING:
    from collections.abc import Callable

    from dspark_local import Runtime

QUESTIONS = ("How do I read a file?", "What does random.choice do?")
OUTPUT = Path(__file__).with_name("screenshot.svg")
POLICY = "fixed:3"  # as `make chat` does: so small a pair would park
POLL = 0.05  # seconds


@click.command()
@click.argument("questions", nargs=-1)
@click.option("--model", default="demo")
@click.option("--size", default="100x30")
@click.option("--output", default=OUTPUT, type=click.Path(path_type=Path))
def main(questions: tuple[str, ...], model: str, size: str, output: Path) -> None:
    """Ask, wait for the ends of the answers, save the picture."""
    columns, rows = map(int, size.split("x"))
    settings = Settings(model=model, max_tokens=512)

    def opened(choice: Choice, progress: Callable[[str, float], None]) -> Runtime:
        return load(choice.model, policy=POLICY, progress=progress)

    app = ChatApp(opened, settings, lambda: Conversations(None))
    asyncio.run(_take(app, questions or QUESTIONS, (columns, rows), output))
    app.close()


async def _take(app: ChatApp, questions: tuple[str, ...], size: tuple[int, int], output: Path) -> None:
    async with app.run_test(size=size) as pilot:
        while not isinstance(app.screen, ChatScreen):
            await pilot.pause(POLL)
        for question in questions:
            await pilot.press(*question)
            await pilot.press("enter")
            await pilot.pause()
            while app.screen.dialogue.answering:
                await pilot.pause(POLL)
        await pilot.pause()
        beside = output.with_suffix(".part")
        beside.write_text(app.export_screenshot(title="dspark-local chat"), encoding="utf-8")
        beside.replace(output)


if __name__ == "__main__":
    main()
