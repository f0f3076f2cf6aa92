"""Markdown as lines: the same however it arrives, and nothing of it lost or too wide."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from textual.app import App, ComposeResult
from textual.geometry import Offset
from textual.highlight import HighlightTheme
from textual.selection import Selection
from textual.style import Style

from dspark_local.tui.prose.markdown import CODE_LINES, Markdown
from dspark_local.tui.prose.page import Drawn, Pen
from dspark_local.tui.prose.table import fitted
from dspark_local.tui.widgets.prose import Prose

PEN = Pen(Style(), lambda style: style if isinstance(style, Style) else Style(), HighlightTheme)
PIECES = (
    "# A *title*\n",
    "Words and **more** words, `code` and [a link](https://example.org).\n",
    "\n",
    "- one\n",
    "  - within\n",
    "1. first\n",
    "\n2. second\n",
    "> said\n",
    "```python\nx = 1\n\ny = 2\n```\n",
    "| a | b |\n|--:|---|\n| 1 | a longer cell |\n",
    "<b>tag</b> 🙂 宽字\n",
    "---\n",
    "text\n===\n",
)
texts = st.lists(st.sampled_from(PIECES), max_size=8).map("".join)


def page(*parts: str, width: int = 40) -> Drawn:
    """What a text looks like that came in parts, drawn anew from where each changed it."""
    document, drawn = Markdown(), []
    for part in parts:
        first = document.write([(part, "")])
        drawn[first:] = [(block.draw(width, PEN), block.goes_on) for block in document.blocks[first:]]
    whole = Drawn()
    for one, goes_on in drawn:
        whole.put(one, apart=not goes_on)
    return whole


def rows(drawn: Drawn) -> list[str]:
    return [line.strip.text.rstrip() for line in drawn.lines]


@settings(max_examples=60, deadline=None)
@given(texts, st.integers(1, 30))
def test_a_text_that_grows_looks_as_if_it_had_come_at_once(text: str, n: int) -> None:
    """In pieces of any size; but for links that are defined later, and the spaces between lists that may yet join."""
    parts = [text[i : i + n] for i in range(0, len(text), n)]
    assert [row for row in rows(page(*parts)) if row] == [row for row in rows(page(text)) if row]


@settings(max_examples=60, deadline=None)
@given(texts, st.integers(12, 60))
def test_no_line_is_wider_than_there_is_room_for(text: str, width: int) -> None:
    """Whatever is in it."""
    assert all(line.strip.cell_length <= width for line in page(text, width=width).lines)


def test_blocks_look_as_they_should() -> None:
    """Lists are numbered on and indented, quotes barred, tables ruled, tags shown as they are."""
    text = "1. one\n2. two\n   - within\n\n> said\n\n| a | b |\n|--:|---|\n| 1 | x |\n| 10 | y |\n\n<b>tag</b>\n"
    expected = [
        "1. one",
        "2. two",
        "   • within",
        "",
        "▌ said",
        "",
        " a │ b",
        "───┼──",
        " 1 │ x",
        "10 │ y",
        "",
        "<b>tag</b>",
    ]
    assert rows(page(text)) == expected


def test_a_long_code_block_that_grows_is_drawn_in_parts() -> None:
    """Lines that are far enough from its end are settled, so that they are not coloured again."""
    code = "\n".join(f"x{n} = {n}" for n in range(5 * CODE_LINES))
    text = f"Look:\n\n```python\n{code}\n```\n\nDone."
    pieces = [text[at : at + 7] for at in range(0, len(text), 7)]
    document = Markdown()
    for piece in pieces:
        document.write([(piece, "")])
    parts = [block for block in document.blocks if hasattr(block, "code")]
    assert len(parts) > 2
    assert "\n".join(part.code for part in parts) == code
    assert [part.goes_on for part in parts] == [False] + [True] * (len(parts) - 1)
    assert rows(page(*pieces)) == ["Look:", "", *code.split("\n"), "", "Done."]


@given(st.lists(st.integers(0, 80), min_size=1, max_size=6), st.integers(1, 120))
def test_columns_give_way_only_as_far_as_they_must(natural: list[int], width: int) -> None:
    """None is wider than it was; they fit, or none has more than three cells."""
    widths = fitted(natural, width)
    assert all(w <= max(1, n) for w, n in zip(widths, natural, strict=True))
    assert sum(widths) + 3 * (len(widths) - 1) <= width or max(widths) <= 3
    if sum(max(1, n) for n in natural) + 3 * (len(natural) - 1) <= width:
        assert widths == [max(1, n) for n in natural]


class _Shown(App[None]):
    def __init__(self, document: Markdown) -> None:
        super().__init__()
        self.prose = Prose(document)

    def compose(self) -> ComposeResult:
        yield self.prose


async def test_what_is_selected_is_copied_without_the_breaks_that_the_width_made() -> None:
    """A paragraph comes as it was written, code with its line breaks, a list without its indents."""
    document = Markdown()
    document.write([("- one two three four five\n\n```\na\nb\n```\n", "")])
    app = _Shown(document)
    async with app.run_test(size=(14, 10)) as pilot:
        await pilot.pause()
        assert app.prose.get_selection(Selection(None, None)) == ("• one two three four five\n\na\nb", "\n")
        assert app.prose.get_selection(Selection(Offset(2, 0), Offset(5, 1))) == ("one two thr", "\n")


async def test_a_code_block_is_one_however_many_parts_it_was_drawn_in() -> None:
    """To who copies it, and to who jumps to it."""
    code = "\n".join(f"x{n} = {n}" for n in range(4 * CODE_LINES))
    app = _Shown(Markdown())
    async with app.run_test(size=(30, 10)) as pilot:
        for piece in ("One:\n```\na\n```\nTwo:\n\n```py\n", code, "\n```\n"):
            app.prose.write([(piece, "")])
            await pilot.pause()
        assert [fence.code for fence in app.prose.fences] == ["a", code]
        assert app.prose.size.height == len(app.prose._page.lines) == 6 + 4 * CODE_LINES
