"""Markdown that grows: what is read once is settled, but for the last block, which what comes may still change."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from markdown_it import MarkdownIt
from markdown_it.tree import SyntaxTreeNode
from textual.content import Content

from dspark_local.tui.prose import table
from dspark_local.tui.prose.colours import coloured
from dspark_local.tui.prose.inline import content
from dspark_local.tui.prose.page import BLANK, Drawn, Fence, Line

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from dspark_local.tui.prose.page import Block, Pen

CODE_LINES = 20  # of a code block that are drawn as one: all of them are coloured again whenever one comes
_BULLETS = "•▪‣◦"
_BAR = "▌ "
_NUMBER = re.compile(r"\d{1,9}[.)]?")
_PARSER = MarkdownIt("gfm-like", {"html": False})  # a terminal shows tags as they are written


class Markdown:
    """A text, and the blocks that it has so far."""

    def __init__(self) -> None:
        self.blocks: list[Block] = []
        self._settled = 0  # blocks that stay as they are
        self._rest = ""  # the text behind those
        self._within = False  # a code block, the beginning of which is settled
        self._links: dict[str, Any] = {}  # that were defined so far

    def write(self, runs: Iterable[tuple[str, str]]) -> int:
        """More of it, whatever the styles; returns the place of the first block that is another now."""
        first = self._settled
        self._rest += "".join(text for text, _ in runs)
        nodes = SyntaxTreeNode(_PARSER.parse(self._rest, self._links)).children
        del self.blocks[first:]
        self.blocks += [_block(node, goes_on=self._within and n == 0) for n, node in enumerate(nodes)]
        if nodes:
            self._settle(nodes)
            self._settle_code()
        return first

    def _settle(self, nodes: Sequence[SyntaxTreeNode]) -> None:
        """All but the last block; and the one before, if the last may become another item of a list."""
        open_ = nodes[-2 if len(nodes) > 1 and _NUMBER.fullmatch(_words(nodes[-1])) else -1 :]
        assert open_[0].map
        self._rest = "\n".join(self._rest.split("\n")[open_[0].map[0] :])
        self._settled = len(self.blocks) - len(open_)
        self._within = self._within and len(open_) == len(nodes)

    def _settle_code(self) -> None:
        """Of a long code block that is the last, what is far enough from its end."""
        while self.blocks and isinstance(last := self.blocks[-1], Code) and last.fenced:
            lines = last.code.split("\n")
            if len(lines) <= 2 * CODE_LINES:
                return
            cut = _cut(lines)
            head, *rest = self._rest.split("\n")
            self._rest = "\n".join([head, *rest[cut:]])
            self.blocks[-1:] = [
                Code("\n".join(lines[:cut]), last.language, goes_on=last.goes_on),
                Code("\n".join(lines[cut:]), last.language, goes_on=True),
            ]
            self._settled = len(self.blocks) - 1
            self._within = True


def _cut(lines: Sequence[str]) -> int:
    """Where the code may be parted: best where something begins, for there no comment or string is open."""
    starts = (n for n in range(CODE_LINES, CODE_LINES // 2, -1) if lines[n][:1].strip() and not lines[n - 1].strip())
    return next(starts, CODE_LINES)


def _block(node: SyntaxTreeNode, *, goes_on: bool = False) -> Block:
    if node.type in {"fence", "code_block"}:
        code = node.content.removesuffix("\n")
        return Code(code, node.info.strip().split(" ")[0], goes_on=goes_on, fenced=node.type == "fence")
    return _Node(node)


@dataclass(frozen=True, slots=True)
class Code:
    """A code block, or a part of a long one."""

    code: str
    language: str
    goes_on: bool = False
    fenced: bool = True

    def draw(self, width: int, pen: Pen) -> Drawn:
        """On a ground of its own, without anything that a selection would copy beside it."""
        ground = pen.on(".fence")
        lines = ground.filled(ground.lines(coloured(self.code, self.language, pen.theme), width, ""), width)
        return Drawn(lines, [Fence(0, len(lines), self.code)])


@dataclass(frozen=True, slots=True)
class _Node:
    """Any other block."""

    node: SyntaxTreeNode
    goes_on: bool = False

    def draw(self, width: int, pen: Pen) -> Drawn:
        """By what it is."""
        return _DRAWN.get(self.node.type, _literal)(self.node, width, pen)


def _literal(node: SyntaxTreeNode, width: int, pen: Pen) -> Drawn:
    return Drawn(pen.lines(Content(node.content), width))


def _paragraph(node: SyntaxTreeNode, width: int, pen: Pen) -> Drawn:
    return Drawn(pen.lines(_inline(node), width))


def _heading(node: SyntaxTreeNode, width: int, pen: Pen) -> Drawn:
    return Drawn(pen.lines(_inline(node).stylize(".heading"), width))


def _rule(_: SyntaxTreeNode, width: int, pen: Pen) -> Drawn:
    return Drawn([Line(pen.strip("─" * width, ".rule"))])


def _quote(node: SyntaxTreeNode, width: int, pen: Pen) -> Drawn:
    return _beside(_stacked(node.children, width - len(_BAR), pen), pen, _BAR, _BAR)


def _words(node: SyntaxTreeNode) -> str:
    return node.children[0].content if node.type == "paragraph" else ""


def _inline(node: SyntaxTreeNode) -> Content:
    return content([child for inline in node.children for child in inline.children])


def _stacked(nodes: Sequence[SyntaxTreeNode], width: int, pen: Pen) -> Drawn:
    """Blocks within a block; a list stands close to the words that it belongs to."""
    drawn = Drawn()
    for node in nodes:
        tight = node.type.endswith("_list") and node.level > 0
        drawn.put(_block(node).draw(max(1, width), pen), apart=not tight)
    return drawn


def _list(node: SyntaxTreeNode, width: int, pen: Pen) -> Drawn:
    first = int(node.attrs.get("start", 1))
    level = sum(up.type == "bullet_list" for up in _above(node))
    marks = [
        f"{first + n}. " if node.type == "ordered_list" else f"{_BULLETS[level % len(_BULLETS)]} "
        for n in range(len(node.children))
    ]
    room = max(map(len, marks))
    drawn = Drawn()
    for mark, item in zip(marks, node.children, strict=True):
        inside = _stacked(item.children, width - room, pen)
        drawn.put(_beside(inside, pen, mark.rjust(room), " " * room), apart=False)
    return drawn


def _above(node: SyntaxTreeNode) -> list[SyntaxTreeNode]:
    found = []
    while up := node.parent:
        found.append(up)
        node = up
    return found


def _beside(drawn: Drawn, pen: Pen, first: str, rest: str) -> Drawn:
    """With a mark at the left of its first line, and something as wide at that of the others."""
    marks = pen.strip(first, ".mark"), pen.strip(rest, ".mark")
    lines = drawn.lines or [BLANK]
    joined = [
        Line(marks[n > 0] + line.strip, line.joint, line.indent + len(rest) if n else 0) for n, line in enumerate(lines)
    ]
    return Drawn(joined, drawn.fences)


_DRAWN = {
    "paragraph": _paragraph,
    "heading": _heading,
    "hr": _rule,
    "blockquote": _quote,
    "bullet_list": _list,
    "ordered_list": _list,
    "table": table.draw,
}
