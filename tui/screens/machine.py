"""What a round costs on this machine, as the policy has measured and learned it."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Static

from dspark_local.scheduling.scheduler import Auto
from dspark_local.tui.screens.card import Card
from dspark_local.tui.widgets.bars import bar
from dspark_local.tui.widgets.keyline import KeyLine
from dspark_local.tui.wording import costs

if TYPE_CHECKING:
    from textual.app import ComposeResult

    from dspark_local.runtime import Runtime
    from dspark_local.scheduling.curve import Curve

UNKNOWN = (
    "This policy reckons with no costs, so none were measured: start with the policy auto and a drafter to see them."
)
_SIDES = 30  # columns beside a bar


class MachineScreen(Card[None]):
    """The cost curves of decoding and drafting, and one sentence on what they mean."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("f4", "leave", show=False, priority=True),
    ]
    DEFAULT_CSS = """
    MachineScreen {
        .title { color: $text-muted; text-style: bold; }
        .curve { margin-bottom: 1; }
        #meaning { color: $primary; margin-bottom: 1; }
    }
    """

    def __init__(self, runtime: Runtime) -> None:
        super().__init__()
        policy = runtime.policy
        self._auto = policy if isinstance(policy, Auto) else None

    def compose(self) -> ComposeResult:
        """The sentence first: a low terminal shows the top."""
        with VerticalScroll(id="card") as card:
            card.border_title = "this machine"
            if self._auto:
                table, gamma = self._auto.cost, self._auto.gamma
                unit = table.at(0)(1)
                yield Static(costs(table, gamma), id="meaning")
                yield Static("TARGET DECODE, BY TOKENS IN IT", classes="title")
                yield _Plot(table.at(0), gamma + 1, unit)
                yield Static("DRAFT, BY TOKENS IN IT", classes="title")
                yield _Plot(table.draft, gamma, unit)
            else:
                yield Static(UNKNOWN, id="meaning")
        yield KeyLine()


class _Plot(Static):
    """A bar for each number of rows, as long as its seconds."""

    def __init__(self, curve: Curve, n: int, unit: float) -> None:
        super().__init__(classes="curve")
        self._seconds = [curve(k) for k in range(1, n + 1)]
        self._unit = unit

    def render(self) -> Content:
        """Rows, bar, milliseconds, and how many plain tokens that is."""
        width, most = max(1, self.size.width - _SIDES), max(self._seconds)
        return Content("\n").join(
            Content.assemble(
                (f"{k:>2} ", "$foreground 60%"), bar(s / most, width), f" {1000 * s:8.2f} ms {s / self._unit:6.2f} ×"
            )
            for k, s in enumerate(self._seconds, 1)
        )
