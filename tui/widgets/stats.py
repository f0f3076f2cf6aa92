"""The panel at the side: what speculation does, while it does it."""

from __future__ import annotations

from collections import deque
from itertools import accumulate
from operator import mul
from typing import TYPE_CHECKING

from textual.containers import Horizontal, VerticalScroll
from textual.widgets import Digits, Label, Sparkline

from dspark_local.tui.widgets.bars import MARK, Bars
from dspark_local.tui.widgets.facts import Facts
from dspark_local.tui.widgets.levels import Levels
from dspark_local.tui.wording import against_plain, pace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from textual.app import ComposeResult

    from dspark_local.runtime import Info
    from dspark_local.types import Round, RoundTimes, Stats

RECENT = 54  # points in the sparkline: two a column
SMOOTH = 4  # rounds in a point: a single round yields 1 token or γ + 1
EMPTY = "–"


class StatsPanel(VerticalScroll, can_focus=False):
    """Figures of the answer that is being written, or of the last one."""

    DEFAULT_CSS = """
    StatsPanel {
        width: 32; padding: 1 2 0 2; border-left: tall $panel; scrollbar-size-vertical: 1;
        .title { width: 1fr; color: $text-muted; text-style: bold; }
        .note { width: 1fr; color: $text-muted; text-style: dim; margin-bottom: 1; }
        #accepted-length { width: 1fr; color: $primary; }
        #speed { width: 1fr; height: 1; color: $primary; text-style: bold; }
        Sparkline { height: 2; }
        #width { height: 1; }
        #mean-width { width: auto; color: $primary; text-style: bold; }
        Sparkline > .sparkline--min-color { color: $primary 40%; }
        Sparkline > .sparkline--max-color { color: $primary; }
        #against { width: 1fr; height: 1; color: $text-muted; text-style: dim; }
        #pace { height: 2; }
        #round { margin-bottom: 1; }
        &.-plain Bars, &.-plain #foreseen, &.-plain #pace, &.-plain #width, &.-plain #widths { display: none; }
    }
    """

    def __init__(self, info: Info) -> None:
        super().__init__()
        self._info = info
        self.set_class(not info.block_size, "-plain")  # no drafter, no bars
        self._latest: deque[Round] = deque(maxlen=SMOOTH)
        self._speeds: deque[float] = deque(maxlen=RECENT)
        self._plain: float | None = None  # tokens per second of plain decoding, measured
        self._mean_width = Label(id="mean-width")  # within a row, so not there yet when the panel is
        self._survival: dict[int, tuple[float, int]] = {}  # sum and count by position, of the drafts verified there

    def compose(self) -> ComposeResult:
        """The most telling figure first: a low terminal shows the top."""
        yield Label("ACCEPTED LENGTH", classes="title")
        yield Digits(EMPTY, id="accepted-length")
        yield Label("tokens/round, own included", classes="note")
        if self._info.block_size:
            yield Label("ACCEPTED BY POSITION", classes="title")
        yield Bars()
        yield Label(classes="note", id="foreseen")
        yield Label("TOKENS PER SECOND", classes="title")
        yield Label(EMPTY, id="speed")
        yield Sparkline([], summary_function=_mean)
        yield Label(id="against")
        with Horizontal(id="width"):
            yield Label("VERIFY WIDTH", classes="title")
            yield self._mean_width
        yield Levels(self._info.block_size + 1, id="widths")
        yield Label(id="pace", classes="note")
        yield Facts(id="round")
        yield Facts(id="pair")

    def on_mount(self) -> None:
        """Empty figures."""
        self.clear()

    def clear(self) -> None:
        """A new chat: nothing is known yet."""
        self.begin()
        self.show(None, ())

    def begin(self) -> None:
        """A new answer: the sparkline starts again."""
        self._latest.clear()
        self._speeds.clear()
        self.query_one(Levels).clear()
        self._survival.clear()

    def measured(self, plain: float) -> None:
        """A race has measured plain decoding, in tokens per second: what comes is held against that."""
        self._plain = plain
        self.query_one("#against", Label).update(f"plain, as raced: {plain:.1f}", layout=False)

    def show(self, stats: Stats | None, rounds: Sequence[Round]) -> None:
        """Figures so far, and the rounds since the last call."""
        for record in rounds:
            self._latest.append(record)
            for k, survival in enumerate(accumulate(record.confidences[: record.admitted], mul)):
                total, n = self._survival.get(k, (0.0, 0))
                self._survival[k] = (total + survival, n + 1)
            seconds = sum(r.times.total - r.times.prefill for r in self._latest)
            self._speeds.append(sum(len(r.tokens) for r in self._latest) / seconds if seconds > 0 else 0.0)
        known = stats if stats and stats.rounds else None
        with self.app.batch_update():
            self.query_one("#accepted-length", Digits).update(f"{known.accepted_length:.2f}" if known else EMPTY)
            foreseen = [total / n for _, (total, n) in sorted(self._survival.items())]
            n = self._info.block_size  # what is looked up may be longer
            self.query_one(Bars).show(known.accepted_per_position[:n] if known else (), n, foreseen)
            explained = f"{MARK} foreseen by the drafter" if foreseen else ""  # not every drafter foresees
            self.query_one("#foreseen", Label).update(explained, layout=False)
            speed = f"{known.tokens_per_second:.1f}" if known else EMPTY
            self.query_one("#speed", Label).update(speed, layout=False)
            self.query_one(Sparkline).data = list(self._speeds)
            self.query_one(Levels).show([record.width for record in rounds])
            self._mean_width.update(f"{known.mean_width:.1f}" if known else EMPTY)
            if rounds or not known:
                said = against_plain(known, rounds[-1] if rounds else None, self._plain)
                self.query_one("#against", Label).update(said, layout=False)
                self.query_one("#pace", Label).update(pace(rounds[-1]) if rounds else "", layout=False)
            self.query_one("#round", Facts).show(self._round(known))
            self.query_one("#pair", Facts).show(self._pair(stats))

    @staticmethod
    def _round(stats: Stats | None) -> dict[str, str]:
        if stats is None:
            return dict.fromkeys(("drafted", "accepted", "drafting", "verifying"), EMPTY)
        share = f" · {100 * stats.draft_n_accepted / stats.draft_n:.0f}%" if stats.draft_n else ""
        return {
            "drafted": f"{stats.draft_n:,}",
            "accepted": f"{stats.draft_n_accepted:,}{share}",
            "drafting": _share(stats.times.draft + stats.times.inject, stats.times),
            "verifying": _share(stats.times.verify, stats.times),
        }

    def _pair(self, stats: Stats | None) -> dict[str, str]:
        used = stats.prompt_n + stats.predicted_n if stats else 0
        return {
            "model": self._info.model,
            "drafter": self._info.drafter,
            "context": f"{used:,} of {self._info.n_ctx:,}",
            "seed": str(stats.seed) if stats else EMPTY,
        }


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def _share(part: float, times: RoundTimes) -> str:
    seconds = times.total - times.prefill
    return f"{100 * part / seconds:.0f}% of time" if seconds else EMPTY
