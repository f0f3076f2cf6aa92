"""Which files of a repository a quant means."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspark_local.errors import ModelNotFoundError
from dspark_local.models.progress import Transfer, of, size
from dspark_local.models.quants import PREFERRED, File, checkpoint, choose, ggufs, has_quant, named


def files(*paths: str) -> list[File]:
    return [File(path, 10) for path in paths]


REPO = files(
    "README.md",
    "m-IQ4_XS.gguf",
    "m-Q4_K_S.gguf",
    "m-Q4_K_M.gguf",
    "m-Q4_0.gguf",
    "m-UD-Q4_K_XL.gguf",
    "mmproj-m-F16.gguf",
    "m.imatrix.gguf",
    *(f"BF16/m-BF16-0000{i}-of-00002.gguf" for i in (1, 2)),
    *(f"Q8_0/m-Q8_0-0000{i}-of-00003.gguf" for i in (1, 3)),
)


@pytest.mark.parametrize(
    ("quant", "path"),
    [
        (None, "m-Q4_K_M.gguf"),
        ("Q4_K_M", "m-Q4_K_M.gguf"),
        ("q4_k_m", "m-Q4_K_M.gguf"),
        ("IQ4_XS", "m-IQ4_XS.gguf"),
        ("Q4_K_XL", "m-UD-Q4_K_XL.gguf"),
        ("BF16", "BF16/m-BF16-00001-of-00002.gguf"),
    ],
)
def test_a_quant_is_a_whole_word_of_a_name(quant: str | None, path: str) -> None:
    """Whatever the case; projectors and importance matrices are no models; without one the preferred."""
    assert choose(REPO, quant, where="u/r")[0].path == path


@pytest.mark.parametrize("quant", ["F16", "Q8_0", "Q4", "Q4_K", "XS", "Q2_K"])
def test_what_is_not_there_is_said_with_what_is(quant: str) -> None:
    """A part of a word is not the word, and a split model with a part missing is none."""
    with pytest.raises(ModelNotFoundError, match=f"u/r has no {quant}; it has BF16, IQ4_XS, Q4_0"):
        choose(REPO, quant, where="u/r")


def test_all_parts_come_in_order() -> None:
    """By whichever of both ways they are asked for."""
    parts = ["BF16/m-BF16-00001-of-00002.gguf", "BF16/m-BF16-00002-of-00002.gguf"]
    assert [f.path for f in choose(REPO, "BF16", where="u/r")] == parts
    assert [f.path for f in named(REPO, parts[0], where="u/r")] == parts
    assert [f.path for f in named(REPO, "README.md", where="u/r")] == ["README.md"]


@given(st.lists(st.sampled_from(PREFERRED), min_size=1, unique=True))
def test_without_a_quant_the_first_preferred_is_taken(quants: list[str]) -> None:
    """Of any set of them."""
    found = choose(files(*(f"m-{q}.gguf" for q in quants)), None, where="u/r")[0].path
    assert has_quant(found, min(quants, key=PREFERRED.index))


@given(st.integers(1, 9), st.data())
def test_a_split_model_is_whole_or_not_at_all(n: int, data: st.DataObject) -> None:
    """Any missing part leaves nothing, in whatever order the others come."""
    paths = [f"m-{i + 1:05}-of-{n:05}.gguf" for i in range(n)]
    there = data.draw(st.lists(st.sampled_from(paths), unique=True))
    found = ggufs(files(*there))
    assert [[f.path for f in parts] for parts in found] == ([paths] if len(there) == n else [])


def test_a_repository_without_a_gguf_is_refused() -> None:
    """With a hint where to look."""
    with pytest.raises(ModelNotFoundError, match="holds no GGUF"):
        choose(files("model.safetensors", "config.json"), None, where="u/r")


def test_a_checkpoints_configuration_comes_last() -> None:
    """It being there then means that everything is."""
    there = ("config.json", "tokenizer.model", "a.safetensors", "tokenizer.json", "x.bin", "sub/a.json")
    found = [f.path for f in checkpoint(files(*there, "chat_template.jinja"))]
    assert found == ["a.safetensors", "chat_template.jinja", "tokenizer.json", "tokenizer.model", "config.json"]
    assert checkpoint(files("config.json", "x.bin")) == ()


@pytest.mark.parametrize(
    ("n", "text"), [(0, "0 B"), (999, "999 B"), (4_000, "4 kB"), (23_400_000, "23 MB"), (16_645_000_000, "16.6 GB")]
)
def test_bytes_are_told_in_decimal_units(n: int, text: str) -> None:
    """As disks and hubs count them; two of them in one unit."""
    assert size(n) == text
    assert of(1_200_000_000, 4_900_000_000) == "1.2 of 4.9 GB"


@given(st.integers(1, 10**6), st.lists(st.integers(-50, 10**5)))
def test_a_transfer_that_begins_anew_tells_no_nonsense(total: int, pieces: list[int]) -> None:
    """What a client takes back is taken back."""
    heard: list[float] = []
    transfer = Transfer(lambda _, share: heard.append(share), "x", total)
    for piece in pieces:
        transfer.add(piece)
    transfer.add(total - sum(pieces))
    assert heard[-1] == 1
