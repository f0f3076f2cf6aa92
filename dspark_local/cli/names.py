"""Names of models on the command line, which the shell completes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

from dspark_local.models import registry

if TYPE_CHECKING:
    from click import Context, Parameter


class ModelName(click.ParamType[str]):
    """A registry name, with its quants behind a colon; a path, where the shell knows better."""

    name = "model"

    def shell_complete(self, ctx: Context, param: Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG002 - click's signature
        """Names that begin so; files, if none does."""
        name, colon, quant = incomplete.partition(":")
        rows = registry.rows()
        if colon and name in rows:
            found = [f"{name}:{q}" for q in rows[name].target if q.lower().startswith(quant.lower())]
            return [CompletionItem(text) for text in found]
        items = [CompletionItem(n, help=r.description) for n, r in rows.items() if n.startswith(incomplete)]
        return items or [CompletionItem(incomplete, type="file")]
