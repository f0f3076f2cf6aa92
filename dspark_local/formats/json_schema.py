"""JSON schema → GBNF, for a subset that it enforces whole; what it cannot enforce it refuses by name.

llama-cpp-python's own converter passes over keywords that it does not know, lets line breaks into strings and breaks
on quotation marks, so its text need not be valid. Here: objects have the properties that they declare, in that order,
and no others; without declared properties any. Schemas: https://json-schema.org/draft/2020-12.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

from dspark_local.errors import UsageError
from dspark_local.formats.gbnf import MOST_REPEATS
from dspark_local.formats.integers import between

if TYPE_CHECKING:
    from collections.abc import Callable

Schema = dict[str, Any]

_DEEPEST = 64
_NOTES = {
    *("title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly"),
    *("$schema", "$id", "$anchor", "$comment", "$defs", "definitions"),
}
_KEYWORDS = {
    "object": {"properties", "required", "additionalProperties"},
    "array": {"items", "prefixItems", "minItems", "maxItems"},
    "string": {"minLength", "maxLength", "format"},
    "integer": {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"},
    "number": {"minimum"},
    "boolean": set[str](),
    "null": set[str](),
}
_TYPES = tuple(_KEYWORDS)


def _names(value: Any) -> bool:  # noqa: ANN401 - this and the next three: whatever JSON says
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def _schemas(value: Any) -> bool:  # noqa: ANN401
    return isinstance(value, list) and bool(value)


def _count(value: Any) -> bool:  # noqa: ANN401
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _number(value: Any) -> bool:  # noqa: ANN401
    return isinstance(value, int | float) and not isinstance(value, bool)


_SHAPES: dict[str, Callable[[Any], bool]] = {
    "type": lambda value: isinstance(value, str) or (_names(value) and bool(value)),
    "properties": lambda value: isinstance(value, dict),
    "required": _names,
    "prefixItems": lambda value: isinstance(value, list),
    **dict.fromkeys(("anyOf", "oneOf", "allOf"), _schemas),
    **dict.fromkeys(("minItems", "maxItems", "minLength", "maxLength"), _count),
    **dict.fromkeys(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"), _number),
    **dict.fromkeys(("format", "$ref"), lambda value: isinstance(value, str)),
    "enum": lambda value: isinstance(value, list),
}
_DIGITS = {n: " ".join(["[0-9]"] * n) for n in (2, 4)}
_CLOCK = '([01] [0-9] | "2" [0-3]) ":" [0-5] [0-9]'
_TIME = f'{_CLOCK} ":" [0-5] [0-9] ("." [0-9]{{1,6}})? ("Z" | [+-] {_CLOCK})'
_DATE = f'{_DIGITS[4]} "-" ("0" [1-9] | "1" [0-2]) "-" ("0" [1-9] | "1" [0-9] | "2" [0-8])'  # days of every month
_HEX = "[0-9a-f]"
_FORMATS = {
    "date": _DATE,
    "time": _TIME,
    "date-time": f'{_DATE} "T" {_TIME}',
    "uuid": ' "-" '.join(f"{_HEX}{{{n}}}" for n in (8, 4, 4, 4, 12)),
}
# Rules that all schemas share. A string holds no control character and no lone surrogate.
_SHARED = {
    "space": r'| " " | "\n" [ \t]{0,20}',
    "hex": "[0-9a-fA-F]",
    "char": r'[^"\\\x00-\x1F\x7F] | "\\" (["\\/bfnrt] | "u" ([0-9a-cA-CefEF] hex | [dD] [0-7]) hex hex)',
    "string": r'"\"" char* "\""',
    "integer": '"-"? ("0" | [1-9] [0-9]{0,15})',
    "number": 'integer ("." [0-9]{1,16})? ([eE] [+-]? [0-9]{1,2})?',
    "boolean": '"true" | "false"',
    "null": '"null"',
    "value": "object | array | string | number | boolean | null",
    "member": 'string space ":" space value',
    "object": '"{" space (member (space "," space member)* space)? "}"',
    "array": '"[" space (value (space "," space value)* space)? "]"',
}


def schema_to_gbnf(text: str, *, before: str = "", after: str = "", most: int = 1) -> str:
    """GBNF grammar of the JSON texts that fit a schema, between two fixed texts; of up to `most` such, line by line.

    Raises UsageError for what is no JSON schema, contradicts itself, or cannot be enforced.
    """
    try:
        schema = json.loads(text)
        json.dumps(schema, allow_nan=False)  # Python reads NaN and 1e999, which are none
    except (ValueError, RecursionError) as error:
        raise UsageError(f"the JSON schema is not JSON: {error}") from None
    converter = _Converter(schema)
    root = converter.visit(schema, "schema", depth=0)
    one = f"{_literal(before)} ({root}) {_literal(after)}" if before or after else root
    rules = {"root": one} if most == 1 else {"root": f'one ("\\n" one){{0,{most - 1}}}', "one": one}
    rules |= {**_SHARED, **converter.rules}
    return "".join(f"{name} ::= {rule}\n" for name, rule in rules.items())


@dataclass(slots=True)
class _Converter:
    schema: Any
    rules: dict[str, str] = field(default_factory=dict)
    named: dict[str, str] = field(default_factory=dict)  # rule of each $ref

    def visit(self, schema: Any, where: str, *, depth: int) -> str:  # noqa: ANN401 - whatever JSON says
        """Name of a rule for a schema, or its expression."""
        if depth > _DEEPEST:
            self._fault(where, f"nested deeper than {_DEEPEST}")
        if schema is True or schema == {}:
            return "value"
        if not isinstance(schema, dict):
            self._fault(where, "false, or no schema: nothing fits it")
        if wrong := _malformed(schema):
            self._fault(where, f"{wrong} is malformed")
        given = set(schema) - _NOTES
        for word, convert in (
            ("$ref", self._reference), ("const", self._constants), ("enum", self._constants),
            ("anyOf", self._union), ("oneOf", self._union), ("allOf", self._union),
        ):  # fmt: skip
            if word in given:
                beside = given - {word, "type"} if word in ("const", "enum") else given - {word}
                if beside:
                    self._fault(where, f"{_listed(beside)} beside {word} cannot be enforced")
                return convert(schema, where, depth)
        return self._typed(schema, where, depth, given)

    def _typed(self, schema: Schema, where: str, depth: int, given: set[str]) -> str:
        kinds = schema["type"] if "type" in schema else self._implied(given, where)
        kinds = list(kinds) if isinstance(kinds, list) else [kinds]
        for kind in kinds:
            if kind not in _TYPES:
                self._fault(where, f"type {kind!r} is none of {', '.join(_TYPES)}")
        if unknown := given - {"type"} - set().union(*(_KEYWORDS[kind] for kind in kinds)):
            self._fault(where, f"{_listed(unknown)} cannot be enforced")
        converts = {"object": self._object, "array": self._array, "string": self._string, "integer": self._integer,
                    "number": self._number}  # fmt: skip
        made = [converts[k](schema, where, depth) if k in converts else k for k in kinds]
        return made[0] if len(made) == 1 else f"({' | '.join(made)})"

    def _implied(self, given: set[str], where: str) -> list[str]:
        """Types of a schema that names none: any, or the one whose keywords it has."""
        fitting = [kind for kind in _TYPES if given & _KEYWORDS[kind]]
        if not given:
            return list(_TYPES)
        if set(fitting) == {"integer", "number"}:
            return ["number"]
        if len(fitting) != 1:
            self._fault(where, f"{_listed(given)} cannot be enforced" if not fitting else "it names no type")
        return fitting

    def _reference(self, schema: Schema, where: str, depth: int) -> str:
        path = schema["$ref"]
        if not re.fullmatch(r"#(/.*)?", path):
            self._fault(where, f"$ref {path!r} leads out of the schema")
        if path not in self.named:
            found = self.schema
            for part in path.split("/")[1:]:
                key = part.replace("~1", "/").replace("~0", "~")
                if not isinstance(found, dict) or key not in found:
                    self._fault(where, f"$ref {path!r} leads nowhere")
                found = found[key]
            name = self.named[path] = f"ref-{len(self.named)}"
            self.rules[name] = self.visit(found, path, depth=depth + 1)
        return self.named[path]

    def _constants(self, schema: Schema, where: str, depth: int) -> str:  # noqa: ARG002 - as its siblings
        values = [schema["const"]] if "const" in schema else schema["enum"]
        if "type" in schema:
            kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
            values = [value for value in values if any(_is_a(value, kind) for kind in kinds)]
        if not values:
            self._fault(where, "no value is left to choose")
        return self._rule(" | ".join(_literal(json.dumps(value, ensure_ascii=False)) for value in values))

    def _union(self, schema: Schema, where: str, depth: int) -> str:
        word = next(w for w in ("anyOf", "oneOf", "allOf") if w in schema)
        options = schema[word]
        if word == "allOf" and len(options) > 1:
            self._fault(where, "allOf of several schemas cannot be enforced; write them as one")
        if word == "oneOf" and not all(self._differ(a, b) for i, a in enumerate(options) for b in options[:i]):
            self._fault(where, "oneOf of schemas that may both fit cannot be enforced; anyOf can")
        made = [self.visit(option, f"{where}/{word}/{i}", depth=depth + 1) for i, option in enumerate(options)]
        return self._rule(" | ".join(made))

    def _differ(self, a: Any, b: Any, depth: int = 0) -> bool:  # noqa: ANN401 - whatever JSON says
        """Whether no value can fit both, as far as types and constants tell."""
        a, b = self._followed(a), self._followed(b)
        if depth > _DEEPEST or not all(isinstance(s, dict) and not _malformed(s) for s in (a, b)):
            return False
        constants = [[s["const"]] if "const" in s else s.get("enum") for s in (a, b)]
        if constants[0] and constants[1]:
            return not any(x == y for x in constants[0] for y in constants[1])
        kinds = [{s["type"]} if isinstance(s.get("type"), str) else set(s.get("type", ())) for s in (a, b)]
        kinds = [k | {"number"} if "integer" in k else k for k in kinds]
        if kinds[0] and kinds[1] and not kinds[0] & kinds[1]:
            return True
        shared = set(a.get("required", ())) & set(b.get("required", ()))
        both = [s.get("properties", {}) for s in (a, b)]
        return any(self._differ(both[0].get(name), both[1].get(name), depth + 1) for name in shared)

    def _followed(self, schema: Any) -> Any:  # noqa: ANN401 - as above
        seen: set[str] = set()
        while isinstance(schema, dict) and isinstance(path := schema.get("$ref"), str) and path not in seen:
            seen.add(path)
            found = self.schema
            for part in path.split("/")[1:]:
                found = found.get(part) if isinstance(found, dict) else None
            schema = found
        return schema

    def _object(self, schema: Schema, where: str, depth: int) -> str:
        properties, required = schema.get("properties", {}), schema.get("required", [])
        more = schema.get("additionalProperties", True)
        if missing := [name for name in required if name not in properties]:
            if more is False:
                self._fault(where, f"{_listed(missing)} is required, but no property")
            properties = {**properties, **dict.fromkeys(missing, more)}
        if not properties:
            return self._free(more, where, depth)
        pairs = []
        for name, inner in properties.items():
            value = self.visit(inner, f"{where}/properties/{name}", depth=depth + 1)
            pairs.append(self._rule(f'{_literal(json.dumps(name, ensure_ascii=False))} space ":" space {value}'))
        return self._rule(_members(pairs, [name in required for name in properties], self._rule))

    def _free(self, more: Any, where: str, depth: int) -> str:  # noqa: ANN401 - whatever JSON says
        """An object of any names."""
        if more is False:
            return self._rule('"{" space "}"')
        value = self.visit(more, f"{where}/additionalProperties", depth=depth + 1)
        if value == "value":
            return "object"
        pair = self._rule(f'string space ":" space {value}')
        return self._rule(f'"{{" space ({pair} (space "," space {pair})* space)? "}}"')

    def _array(self, schema: Schema, where: str, depth: int) -> str:
        first = schema.get("prefixItems", [])
        least, most = self._bounds(schema, where, "minItems", "maxItems")
        made = [self.visit(item, f"{where}/prefixItems/{i}", depth=depth + 1) for i, item in enumerate(first)]
        rest = None
        if schema.get("items", True) is not False:
            rest = self.visit(schema.get("items", True), f"{where}/items", depth=depth + 1)
        if len(made) > least or (most is not None and most < len(made)):
            least = max(least, len(made))  # all that are listed are written
        if (most is not None and most < least) or (rest is None and least > len(made)):
            self._fault(where, "minItems, maxItems and prefixItems leave no array")
        return self._rule(_elements(made, rest, least, most))

    def _string(self, schema: Schema, where: str, depth: int) -> str:  # noqa: ARG002 - as its siblings
        least, most = self._bounds(schema, where, "minLength", "maxLength")
        form = schema.get("format")
        if form is not None:
            if form not in _FORMATS:
                self._fault(where, f"format {form!r} cannot be enforced, only {', '.join(_FORMATS)}")
            if least or most is not None:
                self._fault(where, "a length beside a format cannot be enforced")
            return self._rule(f'"\\"" {_FORMATS[form]} "\\""')
        if not least and most is None:
            return "string"
        return self._rule(f'"\\"" char{{{least},{"" if most is None else most}}} "\\""')

    def _integer(self, schema: Schema, where: str, depth: int) -> str:  # noqa: ARG002 - as its siblings
        bounds: dict[str, int | None] = {}
        for word in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"):
            value = schema.get(word)
            if value is not None and value % 1:
                self._fault(where, f"{word} is not a whole number")
            bounds[word] = None if value is None else int(value)
        lows = [n for n in (bounds["minimum"], _plus(bounds["exclusiveMinimum"], 1)) if n is not None]
        highs = [n for n in (bounds["maximum"], _plus(bounds["exclusiveMaximum"], -1)) if n is not None]
        if not lows and not highs:
            return "integer"
        low, high = max(lows, default=None), min(highs, default=None)
        if low is not None and high is not None and low > high:
            self._fault(where, "its minimum is above its maximum")
        return self._rule(between(low, high))

    def _number(self, schema: Schema, where: str, depth: int) -> str:  # noqa: ARG002 - as its siblings
        if "minimum" not in schema:
            return "number"
        if schema["minimum"] != 0:
            self._fault(where, "a number's minimum can be enforced only if it is 0; an integer's always")
        return self._rule('("0" | [1-9] [0-9]{0,15}) ("." [0-9]{1,16})? ([eE] [+-]? [0-9]{1,2})?')

    def _bounds(self, schema: Schema, where: str, low: str, high: str) -> tuple[int, int | None]:
        least, most = schema.get(low, 0), schema.get(high)
        for word, value in ((low, least), (high, most)):
            if value is not None and value > MOST_REPEATS // 2:
                self._fault(where, f"{word} is above {MOST_REPEATS // 2}, which cannot be enforced")
        if most is not None and most < least:
            self._fault(where, f"{low} is above {high}")
        return least, most

    def _rule(self, body: str) -> str:
        """Name of a rule of its own for this expression; the same for the same."""
        for name, known in self.rules.items():
            if known == body:
                return name
        name = f"part-{len(self.rules)}"
        self.rules[name] = body
        return name

    def _fault(self, where: str, what: str) -> NoReturn:
        raise UsageError(f"JSON schema, at {where.removeprefix('schema').removeprefix('#') or 'its root'}: {what}")


def _members(pairs: list[str], required: list[bool], rule: Any) -> str:  # noqa: ANN401 - the converter's _rule
    """An object of these pairs in order. Whichever comes first has no comma before it, all later ones have."""
    tails = [""] * (len(pairs) + 1)
    for i in reversed(range(1, len(pairs))):
        pair = f'space "," space {pairs[i]}'
        tails[i] = rule(f"{pair if required[i] else f'({pair})?'} {tails[i + 1]}".rstrip())
    firsts = []
    for i, pair in enumerate(pairs):
        firsts.append(f"{pair} {tails[i + 1]} space".replace("  ", " "))
        if required[i]:
            return f'"{{" space ({" | ".join(firsts)}) "}}"'
    return f'"{{" space ({" | ".join(firsts)})? "}}"'


def _elements(made: list[str], rest: str | None, least: int, most: int | None) -> str:
    """An array: these elements, then any of `rest` up to the bounds."""
    comma = ' space "," space '
    low = least - len(made)
    high = None if most is None else most - len(made)
    inner = comma.join(made)
    if rest is not None and (high is None or high > 0):
        if made:
            inner += f' (space "," space {rest}){{{low},{"" if high is None else high}}}'
        else:
            upto = "" if high is None else high - 1
            inner = f'{rest} (space "," space {rest}){{{max(0, low - 1)},{upto}}}'
            if low <= 0:
                return f'"[" space ({inner} space)? "]"'
    return f'"[" space {inner} space "]"' if inner else '"[" space "]"'


def _malformed(schema: Schema) -> str | None:
    """A keyword whose value cannot be its."""
    return next((word for word, fits in _SHAPES.items() if word in schema and not fits(schema[word])), None)


def _literal(text: str) -> str:
    """GBNF literal of a text."""
    return '"' + "".join(_ESCAPED.get(c, c) if c.isprintable() else _escape(c) for c in text) + '"'


_ESCAPED = {'"': '\\"', "\\": "\\\\"}


def _escape(char: str) -> str:
    """Of a JSON text's character; a lone surrogate is no character, so it stays JSON's own escape."""
    lone = "\ud800" <= char <= "\udfff"
    return f"\\\\u{ord(char):04x}" if lone else f"\\U{ord(char):08X}"


def _is_a(value: Any, kind: Any) -> bool:  # noqa: ANN401 - whatever JSON says
    types: dict[Any, Any] = {"object": dict, "array": list, "string": str, "boolean": bool, "null": type(None)}
    if kind in ("integer", "number"):
        return isinstance(value, int | float) and not isinstance(value, bool) and (kind == "number" or not value % 1)
    return kind in types and isinstance(value, types[kind])


def _plus(value: int | None, n: int) -> int | None:
    return None if value is None else value + n


def _listed(words: Any) -> str:  # noqa: ANN401 - any collection of names
    return ", ".join(sorted(map(str, words)))
