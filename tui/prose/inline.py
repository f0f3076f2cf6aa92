"""The text within a block of Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.content import Content, Span
from textual.style import Style

if TYPE_CHECKING:
    from collections.abc import Sequence

    from markdown_it.tree import SyntaxTreeNode

_STYLES = {"em": "italic", "strong": "bold", "s": "strike", "code_inline": ".code"}
_BREAKS = {"softbreak": " ", "hardbreak": "\n"}


def content(nodes: Sequence[SyntaxTreeNode]) -> Content:
    """What they say, styled; links are clicked."""
    text: list[str] = []
    spans: list[Span] = []
    _write(nodes, text, spans, 0)
    return Content("".join(text), spans)


def _write(nodes: Sequence[SyntaxTreeNode], text: list[str], spans: list[Span], at: int) -> int:
    """Append to both; returns the place behind it."""
    for node in nodes:
        begin = at
        if node.type == "image":
            said = f"[{node.content or 'image'}]"
        else:
            said = "" if node.children else _BREAKS.get(node.type, node.content)
        text.append(said)
        at += len(said)
        if node.type != "image":
            at = _write(node.children, text, spans, at)
        if style := _STYLES.get(node.type):
            spans.append(Span(begin, at, style))
        if target := node.attrs.get("href") or node.attrs.get("src"):
            spans += [Span(begin, at, ".link"), Span(begin, at, Style.from_meta({"@click": f"link({str(target)!r})"}))]
    return at
