"""Token rows: conversations in the chat template, with what is to be learned marked, in batches of like length."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from questions import SYSTEM
from tokenizer import END_OF_TEXT, IM_END, IM_START
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from small_talk import Turn
    from tokenizers import Tokenizer

STEP = 32
LONGEST = 640


@dataclass(frozen=True, slots=True)
class Row:
    """Ids of one text; `learn[i]` says whether id i is to be predicted."""

    ids: list[int]
    learn: list[bool]


def prompt_ids(tokenizer: Tokenizer, question: str) -> list[int]:
    """A question up to the point where the assistant speaks."""
    return [
        IM_START, *tokenizer.encode(f"user\n{question}").ids, IM_END, *tokenizer.encode("\n").ids,
        IM_START, *tokenizer.encode("assistant\n").ids,
    ]  # fmt: skip


def chat_row(tokenizer: Tokenizer, turns: Sequence[Turn], system: str | None = None) -> Row:
    """A conversation; the answers and their ends are to be learned."""
    newline = tokenizer.encode("\n").ids
    ids: list[int] = []
    if system is not None:
        ids = [IM_START, *tokenizer.encode(f"system\n{system}").ids, IM_END, *newline]
    learn = [False] * len(ids)
    for turn in turns:
        asked, answer = prompt_ids(tokenizer, turn.question), [*tokenizer.encode(turn.answer).ids, IM_END]
        ids += [*asked, *answer, *newline]
        learn += [False] * len(asked) + [True] * len(answer) + [False] * len(newline)
    return Row(ids, learn)


def text_row(tokenizer: Tokenizer, text: str) -> Row:
    """Plain text to its end."""
    ids = [*tokenizer.encode(text).ids, END_OF_TEXT]
    return Row(ids, [False] + [True] * (len(ids) - 1))


def epoch_rows(tokenizer: Tokenizer, conversations: list[list[Turn]], texts: list[str], seed: int) -> list[Row]:
    """Rows of one epoch; one conversation in ten opens with a system prompt."""
    rng = random.Random(seed)
    rows = [chat_row(tokenizer, c, rng.choice(SYSTEM) if rng.random() < 0.1 else None) for c in conversations]
    rows += [text_row(tokenizer, text) for text in texts]
    return [row for row in rows if len(row.ids) <= LONGEST]


def batches(rows: list[Row], tokens: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """(ids, learn), each `[batch, n]`, n a multiple of 32 and batch·n at most `tokens`; shuffled, right-padded."""
    rng = random.Random(seed)
    by_width: dict[int, list[Row]] = {}
    for row in rows:
        by_width.setdefault(-(-len(row.ids) // STEP) * STEP, []).append(row)
    made, spill = [], list[Row]()
    for width in sorted(by_width):
        group = spill + by_width[width]
        rng.shuffle(group)
        size = tokens // width
        full = len(group) // size * size
        made += [(width, group[i : i + size]) for i in range(0, full, size)]
        spill = group[full:]
    if spill:
        made.append((max(-(-len(row.ids) // STEP) * STEP for row in spill), spill[: tokens // LONGEST]))
    rng.shuffle(made)
    for width, group in made:
        ids = torch.full((len(group), width), END_OF_TEXT)
        learn = torch.zeros((len(group), width), dtype=torch.bool)
        for i, row in enumerate(group):
            ids[i, : len(row.ids)] = torch.tensor(row.ids)
            learn[i, : len(row.ids)] = torch.tensor(row.learn)
        yield ids, learn
