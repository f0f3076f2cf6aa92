"""Sampling parameters meet a vocabulary."""

from __future__ import annotations

import math

import pytest

from dspark_local.backend.scripted import ScriptedVocab
from dspark_local.errors import UsageError
from dspark_local.prepare import prepare
from dspark_local.types import SamplingParams


class Suppressing(ScriptedVocab):
    suppressed = (7, 9)


def test_what_a_model_suppresses_is_banned() -> None:
    """Beside the user's own biases, and over them."""
    sampler = prepare(SamplingParams(logit_bias=((7, 5.0), (8, 1.0)), seed=1), Suppressing(), 10)
    assert dict(sampler.params.logit_bias) == {7: -math.inf, 8: 1.0, 9: -math.inf}


def test_breakers_are_found_when_dry_is_on() -> None:
    """And not otherwise, for they take a look at every token."""
    on = prepare(SamplingParams(dry_multiplier=1, dry_sequence_breakers=("ab", "\n")), ScriptedVocab(), 10)
    assert on.breakers == {ord("a"): ((ord("b"),),), ord("\n"): ((),)}
    assert prepare(SamplingParams(), ScriptedVocab(), 10).breakers == {}


@pytest.mark.parametrize(
    ("params", "says"),
    [
        (SamplingParams(logit_bias=((257, 1.0),)), "only 257"),
        (SamplingParams(grammar='root ::= "a"{50}'), "shortest text"),
        (SamplingParams(json_schema='{"minLength": 60}'), "shortest text"),
        (SamplingParams(grammar="root ::= nothing"), "no rule"),
        (SamplingParams(json_schema='{"minItems": 900, "items": {"minItems": 900}}'), "JSON schema asks"),
        (SamplingParams(json_schema='{"properties": {"a": {"$ref": "#"}}, "required": ["a"]}'), "JSON schema asks"),
        (SamplingParams(grammar='root ::= "a"'), "scripted backend"),
    ],
)
def test_what_cannot_be_is_refused(params: SamplingParams, says: str) -> None:
    """Before anything runs."""
    with pytest.raises(UsageError, match=says):
        prepare(params, ScriptedVocab(), 10)
