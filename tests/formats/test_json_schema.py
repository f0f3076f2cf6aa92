"""JSON schemas: what fits is in the grammar, and what cannot be enforced is refused by name."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dspark_local.errors import UsageError
from dspark_local.formats.gbnf import read_gbnf
from dspark_local.formats.integers import between
from dspark_local.formats.json_schema import schema_to_gbnf

REFUSED: list[tuple[Any, str]] = [
    (False, "nothing fits"),
    ({"type": "objekt"}, "'objekt'"),
    ({"type": "string", "pattern": "^a$"}, "pattern cannot be enforced"),
    ({"type": "string", "format": "email"}, "format 'email'"),
    ({"type": "array", "uniqueItems": True}, "uniqueItems"),
    ({"type": "number", "multipleOf": 2}, "multipleOf"),
    ({"type": "number", "minimum": 3}, "minimum"),
    ({"type": "integer", "minimum": 3, "maximum": 2}, "above its maximum"),
    ({"type": "integer", "minimum": 0.5}, "whole number"),
    ({"type": "string", "minLength": 3, "maxLength": 2}, "minLength is above"),
    ({"type": "string", "maxLength": 100_000}, "maxLength is above"),
    ({"not": {}}, "not cannot be enforced"),
    ({"properties": {"a": {"patternProperties": {}}}}, "at /properties/a"),
    ({"$ref": "https://example.com/schema"}, "leads out"),
    ({"$ref": "#/$defs/none"}, "leads nowhere"),
    ({"$ref": "#/$defs/a", "minLength": 1, "$defs": {"a": {}}}, "beside $ref"),
    ({"enum": []}, "no value"),
    ({"const": math.inf}, "not JSON"),
    ({"minItems": "1"}, "minItems is malformed"),
    ({"type": "string", "enum": [1]}, "no value"),
    ({"oneOf": [{"type": "integer"}, {"type": "number"}]}, "may both fit"),
    ({"allOf": [{}, {"type": "string"}]}, "allOf of several"),
    ({"type": "object", "required": ["a"], "additionalProperties": False}, "a is required"),
    ({"type": "array", "items": False, "minItems": 1}, "leave no array"),
]


@pytest.mark.parametrize(("schema", "says"), REFUSED)
def test_what_cannot_be_enforced_is_refused(schema: Any, says: str) -> None:
    """By keyword and place, on one line."""
    with pytest.raises(UsageError) as caught:
        schema_to_gbnf(json.dumps(schema))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_no_json_is_refused() -> None:
    """An empty file, half a schema, and one nested beyond all measure."""
    deep: Any = {}
    for _ in range(100):
        deep = {"type": "array", "items": deep}
    faulty = {"": "not JSON", '{"type":': "not JSON", "[" * 100_000: "not JSON", json.dumps(deep): "64"}
    for text, says in faulty.items():
        with pytest.raises(UsageError, match=says):
            schema_to_gbnf(text)


def test_a_schema_without_a_finite_text_is_refused() -> None:
    """An object that needs one of itself."""
    schema = {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]}
    with pytest.raises(UsageError, match=r"begins with itself|no text fits"):
        read_gbnf(schema_to_gbnf(json.dumps(schema)))


VALUES = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(-3, 3), st.floats(-2, 2), st.sampled_from(["a", "#", "string", "object"])
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from([
                "type", "properties", "required", "items", "prefixItems", "minItems", "maxItems", "minLength", "format",
                "minimum", "maximum", "enum", "const", "anyOf", "oneOf", "allOf", "$ref", "additionalProperties", "a",
            ]),
            inner,
            max_size=4,
        ),
    ),
    max_leaves=12,
)  # fmt: skip


@settings(max_examples=500, deadline=None)
@given(VALUES)
def test_no_schema_is_our_mistake(schema: Any) -> None:
    """However malformed: a grammar that is sound, or one line."""
    try:
        read_gbnf(schema_to_gbnf(json.dumps(schema)))
    except UsageError as error:
        assert "\n" not in str(error)  # noqa: PT017 - it need not be raised


def test_constants_of_any_characters() -> None:
    """Quotation marks, backslashes, line ends, half characters: the literal is JSON's text of the value."""
    for value in ('a"b', "a\\b", "a\nb\x7f\u2028", "é日", "\ud800", {"k": [1, "}"]}):
        text = schema_to_gbnf(json.dumps({"const": value}))
        assert read_gbnf(text).shortest >= len(json.dumps(value, ensure_ascii=False))


def test_options_that_need_each_other_end() -> None:
    """To compare two options of oneOf goes no deeper than a schema may."""
    needs = {"type": "object", "properties": {"a": {"$ref": "#/oneOf/0"}}, "required": ["a"]}
    other = {"type": "object", "properties": {"a": {"$ref": "#/oneOf/1"}}, "required": ["a"]}
    with pytest.raises(UsageError, match="may both fit"):
        schema_to_gbnf(json.dumps({"oneOf": [needs, other]}))


BOUNDS = st.one_of(st.none(), st.integers(-2000, 2000), st.integers(-(10**9), 10**9))


@settings(max_examples=300, deadline=None)
@given(BOUNDS, BOUNDS, st.integers(-3000, 3000), st.integers(-(10**10), 10**10))
def test_integers_between_bounds(low: int | None, high: int | None, near: int, far: int) -> None:
    """The grammar, read as a regular expression, matches just the integers from low to high."""
    import re  # noqa: PLC0415 - for this one test

    if low is not None and high is not None and low > high:
        low, high = high, low
    pattern = re.compile(between(low, high).replace('"', "").replace(" ", ""))
    edges = [n + d for n in (low, high) if n is not None for d in (-1, 0, 1)]
    for n in (near, far, 0, *edges):
        inside = (low is None or n >= low) and (high is None or n <= high)
        assert bool(pattern.fullmatch(str(n))) == inside, n
    for text in ("", "-", "01", "-0", "00"):
        assert not pattern.fullmatch(text)
