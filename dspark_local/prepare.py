"""From sampling parameters to a Sampler: what of them goes by the model's vocabulary."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from dspark_local.errors import UsageError
from dspark_local.formats.gbnf import read_gbnf
from dspark_local.formats.json_schema import schema_to_gbnf
from dspark_local.sampling.rule import Sampler

if TYPE_CHECKING:
    from dspark_local.backend.base import Vocab
    from dspark_local.types import SamplingParams


def prepare(params: SamplingParams, vocab: Vocab, room: int) -> Sampler:
    """Sampler of `params` for an answer of at most `room` tokens; tokens that the model suppresses are banned.

    Raises UsageError for tokens that the vocabulary does not have, and for a grammar or a schema that is faulty,
    that forbids everything, or whose shortest text is longer than `room` tokens can be.
    """
    for token, _ in params.logit_bias:
        if token >= vocab.n_vocab:
            raise UsageError(f"logit-bias names token {token}, but the vocabulary has only {vocab.n_vocab}")
    grammar = params.grammar
    constraint = None
    if params.json_schema is not None:
        grammar = _of_schema(params.json_schema)
    if grammar is not None:
        shortest = read_gbnf(grammar).shortest
        if shortest > room and shortest > room * _longest(vocab):
            raise UsageError(
                f"the shortest text that the grammar allows has {shortest} characters, more than {room} tokens hold; "
                "raise --ctx-size or --max-tokens, or ask for less"
            )
        constraint = vocab.constraint(grammar)
    if vocab.suppressed:
        bias = {**dict(params.logit_bias), **dict.fromkeys(vocab.suppressed, -math.inf)}
        params = replace(params, logit_bias=tuple(bias.items()))
    breakers = vocab.breakers(params.dry_sequence_breakers) if params.dry_multiplier else None
    return Sampler.of(params, breakers=breakers, constraint=constraint)


def _of_schema(schema: str) -> str:
    grammar = schema_to_gbnf(schema)
    try:
        read_gbnf(grammar)
    except UsageError as error:  # its lines are none that the user wrote
        why = str(error).partition(": ")[2] or str(error)
        raise UsageError(f"the JSON schema asks for what no grammar can hold: {why}") from None
    return grammar


def _longest(vocab: Vocab) -> int:
    return max(len(vocab.piece(token)) for token in range(vocab.n_vocab))
