"""Grammars are read strictly."""

from __future__ import annotations

import pytest

from dspark_local.errors import UsageError
from dspark_local.formats.gbnf import read_gbnf

SOUND = {
    'root ::= "abc" [a-z]+': 4,
    'root ::= "a" | "bc" # a note\n\nother ::= root root': 1,
    'root ::= (\n  "ab"\n  | x ) "c"\nx ::= ""': 1,
    'root ::= "a"{3} "b"{2,} .{0,4}': 5,
    'root ::= "x" root | "y"': 1,
    r'root ::= [^"\\\x00-\x1F] "\"\n\t\\é"': 6,
    'root ::= ("a" | "b")* "c"': 1,
    'root ::= [a-c-] [\\]] "-"\r\n': 3,
    "root ::= ": 0,
}
FAULTY = {
    "": "no rule named root",
    'x ::= "a"': "no rule named root",
    'root = "a"': "line 1: expected ::=",
    'root ::= "a"\nx ::= "b': "line 2: a quotation or class without its end",
    'root ::= "\\q"': "unknown escape",
    'root ::= "\\x0"': "unknown escape",
    'root ::= "\\x00"': "NUL",
    "root ::= x": "names x, which is no rule",
    "root ::= *": "nothing before",
    'root ::= "a"{,3}': "expected {n}",
    'root ::= "a"{3,2}': "below its minimum",
    'root ::= "a"{2001}': "more repetitions than 2000",
    'root ::= ("a" x){1000}\nx ::= "b"{3} y\ny ::= "c"': None,
    'root ::= ("a"{50} "b"){50}': "more repetitions",
    'root ::= ("a"': "expected )",
    "root ::= " + "(" * 200 + '"a"' + ")" * 200: "nested deeper",
    "root ::= []": "empty class",
    "root ::= <think>": "not supported",
    'root ::= root "a"': "begins with itself",
    'root ::= a root "x"\na ::= b\nb ::= ""': "begins with itself",
    'root ::= ("a"?)*': "repeats what may be empty",
    'root ::= "a" root': "no text fits",
    r"root ::= [^\x01-\U0010FFFF]": "no text fits",
    "root ::= [z-a]": "no text fits",
    "root ::= a0\n" + "".join(f"a{n} ::= a{n + 1} | a{n + 1}\n" for n in range(40)) + 'a40 ::= "x"': "too many",
}


@pytest.mark.parametrize(("text", "shortest"), SOUND.items())
def test_sound_grammars_and_their_shortest_text(text: str, shortest: int) -> None:
    """In characters."""
    assert read_gbnf(text).shortest == shortest


@pytest.mark.parametrize(("text", "says"), FAULTY.items())
def test_what_llama_cpp_would_choke_on_is_refused(text: str, says: str | None) -> None:
    """With one line that says what and where."""
    if says is None:
        read_gbnf(text)
        return
    with pytest.raises(UsageError) as caught:
        read_gbnf(text)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
