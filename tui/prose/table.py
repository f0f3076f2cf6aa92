"""A table of Markdown: columns as wide as what they hold, or as there is room for."""

from __future__ import annotations

from itertools import zip_longest
from typing import TYPE_CHECKING

from textual.strip import Strip

from dspark_local.tui.prose.inline import content
from dspark_local.tui.prose.page import Drawn, Line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from markdown_it.tree import SyntaxTreeNode
    from textual.content import Content

    from dspark_local.tui.prose.page import Pen

_BETWEEN, _CROSS, _RULE = " │ ", "─┼─", "─"
_LEAST = 3  # columns of a column


def draw(node: SyntaxTreeNode, width: int, pen: Pen) -> Drawn:
    """Head, rule, rows."""
    rows = [[content(cell.children) for cell in row.children] for part in node.children for row in part.children]
    aligned = [str(cell.attrs.get("style", "")) for cell in node.children[0].children[0].children]
    widths = fitted([max(cell.cell_length for cell in column) for column in zip(*rows, strict=True)], width)
    head, *body = rows
    lines = _row([cell.stylize("bold") for cell in head], widths, aligned, pen)
    lines.append(Line(pen.strip(_CROSS.join(_RULE * w for w in widths), ".rule")))
    for row in body:
        lines += _row(row, widths, aligned, pen)
    return Drawn(lines)


def fitted(natural: Sequence[int], width: int) -> list[int]:
    """Widths of columns: the widest give way until all fit, none to less than three cells."""
    widths = [max(1, w) for w in natural]
    excess = sum(widths) + len(_BETWEEN) * (len(widths) - 1) - width
    while excess > 0 and max(widths) > _LEAST:
        most = max(widths)
        widest = [n for n, w in enumerate(widths) if w == most]
        second = max((w for w in widths if w < most), default=_LEAST)
        give = max(1, min(most - max(second, _LEAST), excess // len(widest)))
        for n in widest[: max(1, excess)]:
            widths[n] -= give
            excess -= give
    return widths


def _row(cells: Sequence[Content], widths: Sequence[int], aligned: Sequence[str], pen: Pen) -> list[Line]:
    """As many lines as its highest cell."""
    between = pen.strip(_BETWEEN, ".rule")
    ground = pen.base.rich_style
    columns = []
    for cell, width, align in zip(cells, widths, aligned, strict=True):
        strips = [line.strip.crop(0, width) for line in pen.lines(cell, width)]
        columns.append([_put(strip, width, align).adjust_cell_length(width, ground) for strip in strips])
    blanks = [Strip.blank(width, ground) for width in widths]
    lines = []
    for row in zip_longest(*columns):
        parts = [strip or blank for strip, blank in zip(row, blanks, strict=True)]
        lines.append(Line(Strip.join([s for part in parts for s in (between, part)][1:])))
    return lines


def _put(strip: Strip, width: int, align: str) -> Strip:
    if "right" in align:
        return strip.text_align(width, "right")
    return strip.text_align(width, "center") if "center" in align else strip
