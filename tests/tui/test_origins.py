"""Which characters were drafted: told from rounds of tokens, whatever the tokens' borders are."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dspark_local.backend.scripted import ScriptedVocab
from dspark_local.chat import Reasoning, TextStream
from dspark_local.tui.origins import Origin, Origins, merged
from dspark_local.types import Round

TEXTS = st.lists(st.sampled_from(["<think>", "</think>", "<", "é", "€uro", "𝄞", "ab ", "\n"]), max_size=12).map("".join)


@given(text=TEXTS, shapes=st.lists(st.tuples(st.integers(1, 5), st.integers(0, 4)), min_size=1))
def test_every_character_is_of_the_token_that_ends_it(text: str, shapes: list[tuple[int, int]]) -> None:
    """However text is cut into bytes, rounds and pieces that are held back, and with what is thought left out."""
    vocab, stream, reasoning = ScriptedVocab(), TextStream(ScriptedVocab()), Reasoning()
    origins, shown, data = Origins(vocab.piece), [], text.encode()
    by_byte: list[Origin] = []
    at = 0
    while at < len(data):
        size, accepted = shapes[at % len(shapes)]
        tokens = tuple(data[at : at + size])
        accepted = min(accepted, len(tokens) - 1)
        at += len(tokens)
        by_byte += [Origin.DRAFTED] * accepted + [Origin.OWN] * (len(tokens) - accepted)
        said = [run for token in tokens for run in reasoning.push(stream.push(token))]
        origins.tell(Round(tokens, accepted=accepted))
        shown += [(origins.take(run), thinking) for run, thinking in said]
    shown += [(origins.take(run), thinking) for run, thinking in reasoning.push(stream.flush(), final=True)]
    got = [(char, origin, thinking) for runs, thinking in shown for run, origin in runs for char in run]
    assert got == expected(text, by_byte)


def expected(text: str, by_byte: list[Origin]) -> list[tuple[str, Origin, bool]]:
    """By hand: the last byte of each character, tags taken out."""
    chars, at = [], -1
    for char in text:
        at += len(char.encode())
        chars.append((char, by_byte[at]))
    rows, thinking, i = [], False, 0
    while i < len(chars):
        tag = "</think>" if thinking else "<think>"
        if text.startswith(tag, i):
            thinking, i = not thinking, i + len(tag)
        else:
            rows.append((*chars[i], thinking))
            i += 1
    return rows


def test_half_a_character_at_the_end_is_shown_and_counted() -> None:
    """It comes as a replacement mark when nothing follows."""
    origins = Origins(ScriptedVocab().piece)
    origins.tell(Round((*b"a", 0xE2), accepted=1))
    assert origins.take("a\ufffd") == [("a\ufffd", Origin.DRAFTED)]


def test_runs_are_merged() -> None:
    """Neighbours of one origin are one."""
    own, drafted = Origin.OWN, Origin.DRAFTED
    assert merged([("a", own), ("b", own), ("c", drafted), ("d", own)]) == [("ab", own), ("c", drafted), ("d", own)]
