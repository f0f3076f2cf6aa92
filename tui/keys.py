"""What keys do now: for the help and for the palette."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from textual.app import SystemCommand
from textual.binding import Binding, BindingType

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from textual.binding import ActiveBinding
    from textual.screen import Screen


def in_force(screen: Screen[None], *tables: list[BindingType]) -> list[ActiveBinding]:
    """Of the bindings in `tables`, those that do something now, in their order; each action once for every key."""
    ours = [binding.action for table in tables for binding in Binding.make_bindings(table)]
    active = [b for b in screen.active_bindings.values() if b.binding.action in ours]
    return sorted(active, key=lambda b: ours.index(b.binding.action))


def commands(screen: Screen[None], *tables: list[BindingType]) -> Iterator[SystemCommand]:
    """A row of the palette for each action of `tables` that can be done now."""
    done: set[str] = set()
    for active in in_force(screen, *tables):
        what, action = active.binding.description, active.binding.action
        if what and action not in done:
            done.add(action)
            key = screen.app.get_key_display(active.binding)
            yield row(what, f"key: {key}", partial(screen.app.run_action, action), active.node)


def row(title: str, explained: str, job: Callable[..., object], argument: object) -> SystemCommand:
    """A row of the palette."""
    return SystemCommand(title, explained, partial(job, argument))
