"""Models in the chat: listed, foreseen, fetched, and exchanged without a restart."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest
from textual.widgets import Input, OptionList, Static

from dspark_local.conversations import Conversations
from dspark_local.errors import OutOfMemoryError
from dspark_local.outlook import Outlook, outlook
from dspark_local.scheduling.policy import Fixed
from dspark_local.testing import scripted_runtime
from dspark_local.tui import Choice, Settings
from dspark_local.tui.app import ChatApp
from dspark_local.tui.screens.chat import ChatScreen
from dspark_local.tui.screens.loading import LoadingScreen
from dspark_local.tui.screens.models import ModelsScreen
from dspark_local.tui.shelf import items
from tests.models.conftest import DATA, FILE, REPO, hub
from tests.models.hub import PIECE

from .driver import PATIENCE, Chat, chatting, until

if TYPE_CHECKING:
    from collections.abc import Callable

    from dspark_local.runtime import Runtime
    from tests.models.hub import Hub

__all__ = ["hub"]  # a fixture
GB = 1_000_000_000


class Shop:
    """An opener that remembers what was asked of it, and refuses what it is told to."""

    def __init__(self) -> None:
        self.asked: list[Choice] = []
        self.made: list[Runtime] = []
        self.open_beside: list[bool] = []
        self.refused: set[str] = set()
        self.go = threading.Event()
        self.go.set()

    def __call__(self, choice: Choice, progress: Callable[[str, float], None]) -> Runtime:
        self.asked.append(choice)
        self.open_beside.append(any(not runtime.closed for runtime in self.made))
        progress("loading the target", 0.5)
        self.go.wait(PATIENCE)
        if choice.model in self.refused:
            raise OutOfMemoryError(f"{choice.model} does not fit")
        runtime = scripted_runtime(f"I am {choice.model}.")
        self.made.append(runtime)
        return runtime


async def listed(chat: Chat, text: str = "") -> ModelsScreen:
    """Open the list, and mark the model that `text` finds."""
    screen = await chat.open("f6", ModelsScreen)
    await chat.until(lambda: bool(screen._all))
    await chat.press(*text)
    await chat.pilot.pause()
    return screen


def said(screen: ModelsScreen) -> str:
    return str(screen.query_one("#outlook", Static).content)


def test_the_shelf_holds_registry_and_cache(hub: Hub) -> None:
    """What is here comes first; rows without a GGUF are left out, files of the cache come by their path."""
    found = items()
    assert (found[0].name, found[0].here) == ("demo", True)
    assert not next(item for item in found if item.name == "qwen3-8b").here
    hub.repos["maker/Other-GGUF"] = {"other-Q8_0.gguf": DATA}
    from dspark_local.models.locations import find  # noqa: PLC0415 - under the patches of the fixture

    path = find("maker/Other-GGUF", "none").target
    assert [item.here for item in items() if item.name == str(path)] == [True]


def test_the_outlook_counts_target_and_drafter(hub: Hub) -> None:
    """In the package nothing is to fetch; of the hub, what it says and what is here; asked for, not guessed."""
    assert (outlook("demo").missing, outlook("demo").drafter) == (0, True)
    assert outlook("demo").size > outlook("demo", "none").size
    found = outlook(f"{REPO}:Q4_K_M")
    assert (found.size, found.missing, found.drafter) == (len(DATA), len(DATA), False)
    assert hub.sent < len(DATA)


def test_whether_it_fits_is_said_in_words() -> None:
    """Files against free memory and disk."""
    assert Outlook(5 * GB, 0, 8 * GB, 9 * GB, drafter=True).words == (
        "its files take 5.0 GB of 8.0 GB of memory that are free now; the context comes on top"
    )
    said = Outlook(9 * GB, 9 * GB, 8 * GB, 7 * GB, drafter=False).words
    assert said == (
        "no model drafts for it · 9.0 GB to fetch, more than the disk's 7.0 GB · "
        "does not fit: its files alone take 9.0 GB of 8.0 GB of memory that are free now"
    )


async def test_a_model_is_exchanged_and_the_conversation_stays() -> None:
    """The old one is closed before the new one is loaded; progress is shown; the next answer is the new one's."""
    shop = Shop()
    async with chatting(shop) as chat:
        await chat.ask("Who?")
        await chat.answered()
        shop.go.clear()
        chat.prompt.insert("/model demo")
        await chat.press("enter")
        await chat.until(lambda: isinstance(chat.app.screen, ModelsScreen))
        await chat.until(lambda: bool(chat.app.screen._all))
        await chat.press("enter")
        await chat.until(lambda: isinstance(chat.app.screen, LoadingScreen))
        await chat.until(lambda: "loading the target" in chat.seen())
        shop.go.set()
        await chat.until(lambda: isinstance(chat.app.screen, ChatScreen))
        assert shop.open_beside == [False, False]
        await chat.ask("And now?")
        await chat.answered()
        assert [turn.content for turn in chat.dialogue.talk.turns] == ["Who?", "I am demo.", "And now?", "I am demo."]
        assert shop.made[1].closed is False


async def test_a_model_that_does_not_load_leaves_ways_on() -> None:
    """What went wrong in one line; again, another model, or back to the one before; the chat is still there."""
    shop = Shop()
    shop.refused = {"huge"}
    async with chatting(shop) as chat:
        await chat.ask("Who?")
        await chat.answered()
        chat.app.load(Choice(model="huge"))
        await chat.until(lambda: "huge does not fit" in chat.seen())
        assert "esc goes back to demo" in " ".join(chat.seen().split())
        await chat.press("r")
        await chat.until(lambda: [choice.model for choice in shop.asked] == ["demo", "huge", "huge"])
        await chat.until(lambda: chat.app.screen.has_class("-failed"))
        await chat.press("m")
        await chat.until(lambda: isinstance(chat.app.screen, ModelsScreen))
        await chat.press("escape")
        await chat.until(lambda: isinstance(chat.app.screen, LoadingScreen))
        await chat.press("escape")
        await chat.until(lambda: isinstance(chat.app.screen, ChatScreen))
        assert shop.asked[-1] == Choice(model="demo")
        await chat.ask("And now?")
        await chat.answered()
        assert len(chat.dialogue.talk.turns) == 4
        assert chat.app.error is None


async def test_another_model_can_be_chosen_when_the_first_does_not_load() -> None:
    """M opens the list from the loading screen."""
    shop = Shop()
    shop.refused = {"demo"}
    app = ChatApp(shop, Settings(), lambda: Conversations(None))
    async with app.run_test(size=(100, 30)) as pilot:
        await until(pilot, lambda: app.screen.has_class("-failed"))
        shop.refused = set()
        await pilot.press("m")
        await until(pilot, lambda: isinstance(app.screen, ModelsScreen) and bool(app.screen._all))
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, ChatScreen))
        assert app.error is None
    app.close()


async def test_a_policy_that_reckons_is_loaded() -> None:
    """For it the machine is measured; the model stays the same."""
    shop = Shop()
    async with chatting(shop) as chat:
        chat.prompt.insert("/policy auto")
        await chat.press("enter")
        await chat.until(lambda: len(shop.made) == 2)
        assert shop.asked[-1] == Choice(model="demo", policy="auto")
        await chat.until(lambda: isinstance(chat.app.screen, ChatScreen))
        chat.prompt.insert("/policy plain")
        await chat.press("enter")
        await chat.until(lambda: shop.made[-1].policy == Fixed(0))


async def test_an_engine_that_stopped_leads_to_the_models() -> None:
    """The message names the key, and the same model is loaded again with the chat in place."""
    shop = Shop()
    async with chatting(shop) as chat:
        shop.made[0]._engine.step = broken
        await chat.press(*"Who?", "enter")
        await chat.until(lambda: "F6 loads the model again" in chat.seen())
        assert chat.prompt.text == "Who?"
        await listed(chat)
        await chat.press("enter")
        await chat.until(lambda: len(shop.made) == 2)
        await chat.until(lambda: isinstance(chat.app.screen, ChatScreen))
        await chat.press("enter")
        await chat.until(lambda: bool(chat.answers) and chat.answers[-1].text == "I am demo.")


def broken() -> None:
    raise ValueError("surprise")


async def test_a_model_is_fetched_while_the_chat_goes_on(hub: Hub) -> None:
    """By its hub id, with its size said first; when it has arrived, a notice says so and the list knows it."""
    hub.pause = 0.001
    async with chatting(Shop()) as chat:
        screen = await listed(chat, f"{REPO}:Q4_K_M")
        await chat.until(lambda: "3 MB to fetch" in said(screen))
        assert hub.sent < len(DATA)
        await chat.press("enter")
        await chat.until(lambda: chat.app.pull is not None or hub.sent >= len(DATA))
        await chat.press("escape")
        await chat.ask("Who?")
        await chat.answered()
        await chat.until(lambda: any("is here" in notice for notice in chat.notices()))
        assert chat.app.pull is None
        screen = await listed(chat, FILE)
        assert screen.query_one(OptionList).option_count == 1


async def test_a_download_is_stopped_and_goes_on_where_it_was(hub: Hub) -> None:
    """F8 stops it; nothing half is taken for a model, and the next pull fetches only the rest."""
    hub.pause = 0.1  # so that a busy machine stops it before its end too
    async with chatting(Shop(), size=(60, 20)) as chat:
        screen = await listed(chat, f"{REPO}:Q4_K_M")
        await chat.press("enter")
        await chat.until(lambda: screen.has_class("-pulling") and hub.sent > 3 * PIECE)
        await chat.press("f8")
        await chat.until(lambda: not screen.has_class("-pulling"))
        assert chat.app.pull is None
        assert not [item for item in items() if FILE in item.name]
        hub.pause = 0.0
        screen.query_one(Input).focus()
        await chat.press("enter")
        await chat.until(lambda: any("is here" in notice for notice in chat.notices()))
        assert int(str(hub.ranges[-1]).removeprefix("bytes=").rstrip("-")) > 0


async def test_what_the_hub_refuses_is_said_in_the_list(hub: Hub) -> None:
    """And Enter on it is a notice; the screen stays."""
    hub.status = 503
    async with chatting(Shop()) as chat:
        screen = await listed(chat, "no/where")
        await chat.until(lambda: "out of order" in said(screen))
        assert screen.query_one("#outlook").has_class("-error")
        await chat.press("enter")
        await chat.until(lambda: any("out of order" in notice for notice in chat.notices()))
        assert chat.app.screen is screen


@pytest.mark.parametrize("name", ["../nothing.gguf", "nothing-at-all"])
async def test_a_name_that_there_is_not_is_said_at_once(name: str) -> None:
    """As the command line would say it."""
    async with chatting(Shop()) as chat:
        screen = await listed(chat, name)
        await chat.until(lambda: "no such file" in said(screen))
