"""One question in the forms that the contestants take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from dspark_local.chat import Template, TextStream, encode_chat

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dspark_local.backend.base import Vocab
    from dspark_local.bench.prompts import Prompt

SEED = 1


@dataclass(frozen=True, slots=True)
class Question:
    """A prompt as tokens, and `rendered` for the one program that takes no tokens; answered at `temperature`."""

    tokens: list[int]
    rendered: str
    temperature: float

    @classmethod
    def of(cls, vocab: Vocab, prompt: Prompt) -> Self:
        """Under the model's chat template."""
        tokens = encode_chat(vocab, prompt.messages)
        rendered = Template(vocab.chat_template or "", vocab.bos, vocab.eos).render(prompt.messages)
        return cls(tokens, rendered, prompt.temperature)


def text(vocab: Vocab, tokens: Sequence[int]) -> str:
    """An answer as people read it."""
    stream = TextStream(vocab)
    return ("".join(map(stream.push, tokens)) + stream.flush()).strip()
