"""Conversations in SQLite: kept, found, branched, migrated, and intact whatever happens to the process."""

from __future__ import annotations

import os
import random
import sqlite3
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from dspark_local import conversations
from dspark_local.conversations import Conversations, Turn
from dspark_local.errors import StorageError
from dspark_local.types import SamplingParams

if TYPE_CHECKING:
    from pathlib import Path

WARM = SamplingParams(temperature=0.7, top_k=40, seed=3)


def said(*contents: str) -> list[Turn]:
    return [Turn(role=("user", "assistant")[i % 2], content=c) for i, c in enumerate(contents)]


def begin(store: Conversations, *contents: str, title: str = "a title") -> tuple[int, list[int]]:
    one = store.create(title, model="demo", system="Be brief.", sampling=WARM)
    return one, [store.add(one, turn) for turn in said(*contents)]


def texts(store: Conversations, conversation: int) -> list[str]:
    return [turn.content for turn in store.turns(conversation)]


def test_what_was_said_is_there_when_the_file_is_opened_again(tmp_path: Path) -> None:
    """Turns in their order with role and thinking, title, model, system message and sampling."""
    path = tmp_path / "new" / "c.db"
    with Conversations(path) as store:
        one, _ = begin(store, "One?", "Yes.", "Two?")
        store.add(one, Turn(role="assistant", content="No.", thinking="hm"))
    with Conversations(path) as store:
        (found,) = store.find()
        assert (found.title, found.model, found.system, found.sampling) == ("a title", "demo", "Be brief.", WARM)
        turns = store.turns(found.id)
        assert [(t.role, t.content, t.thinking) for t in turns] == [
            ("user", "One?", ""), ("assistant", "Yes.", ""), ("user", "Two?", ""), ("assistant", "No.", "hm"),
        ]  # fmt: skip


def test_an_answer_grows_in_its_place() -> None:
    """Amending a turn changes it and no other."""
    with Conversations(None) as store:
        one, ids = begin(store, "One?", "Y")
        store.amend(Turn(id=ids[1], role="assistant", content="Yes."))
        assert texts(store, one) == ["One?", "Yes."]


def test_going_on_from_an_earlier_turn_loses_nothing() -> None:
    """The conversation shows the new branch; the old one is still in the file and is found."""
    with Conversations(None) as store:
        one, ids = begin(store, "One?", "Yes.", "Two?", "No.")
        store.rewind(one, ids[1])
        store.add(one, Turn(role="user", content="Three?"))
        assert texts(store, one) == ["One?", "Yes.", "Three?"]
        assert [c.id for c in store.find("Two?")] == [one]
        store.rewind(one, ids[3])
        assert texts(store, one) == ["One?", "Yes.", "Two?", "No."]
        store.rewind(one, None)
        assert texts(store, one) == []


def test_a_branch_is_taken_again_with_all_that_followed() -> None:
    """Siblings are the turns in one place, by age; through one of them the latest behind it is reached."""
    with Conversations(None) as store:
        one, ids = begin(store, "One?", "Yes.", "Two?", "No.")
        begin(store, "elsewhere")
        store.rewind(one, ids[0])
        other = store.add(one, Turn(role="assistant", content="Perhaps."))
        assert store.siblings(other) == store.siblings(ids[1]) == [ids[1], other]
        assert store.siblings(ids[0]) == ids[:1]
        store.switch(one, ids[1])
        assert texts(store, one) == ["One?", "Yes.", "Two?", "No."]
        store.rewind(one, None)
        first = store.add(one, Turn(role="user", content="Other?"))
        assert store.siblings(first) == [ids[0], first]
        store.switch(one, ids[0])
        assert texts(store, one) == ["One?", "Perhaps."]


def test_the_latest_is_first_and_search_takes_text_as_it_is() -> None:
    """A percent sign is no wildcard; titles and turns count, in any case."""
    with Conversations(None) as store:
        old, _ = begin(store, "100% sure", title="Certainty")
        new, _ = begin(store, "100 times", title="other")
        assert [c.id for c in store.find()] == [new, old]
        assert [c.id for c in store.find("100%")] == [old]
        assert [c.id for c in store.find("certain")] == [old]
        assert store.find("_00") == []
        store.add(old, Turn(role="user", content="again"))
        assert [c.id for c in store.find()] == [old, new]


def test_renamed_set_up_and_deleted() -> None:
    """Deleting takes the turns of all branches along, and no other conversation."""
    with Conversations(None) as store:
        one, ids = begin(store, "a", "b", "c")
        store.rewind(one, ids[0])
        store.add(one, Turn(role="assistant", content="d"))
        two, _ = begin(store, "kept")
        store.rename(one, "better")
        store.set_up(one, system=None, sampling=SamplingParams())
        (first,) = store.find("better")
        assert (first.system, first.sampling) == (None, SamplingParams())
        store.delete(one)
        assert [c.id for c in store.find()] == [two]
        assert store._db.execute("SELECT content FROM turns").fetchall() == [("kept",)]
        with pytest.raises(StorageError, match="deleted meanwhile"):
            store.add(one, Turn(role="user", content="late"))


def test_questions_are_recalled_once_and_without_documents() -> None:
    """Of all conversations, the latest last; answers are none."""
    with Conversations(None) as store:
        begin(store, "a", "an answer", "b")
        begin(store, "a", "another", "x" * 5000)
        assert store.questions() == ["b", "a"]


def test_sampling_of_another_version_is_read_as_far_as_it_is_known() -> None:
    """An option that we do not know is left out; lists become tuples again."""
    assert conversations._loaded('{"temperature": 0.5, "from_the_future": [[1, 2]]}') == SamplingParams(temperature=0.5)
    for unknown in ('{"temperature": -1}', '{"temperature": "warm"}', "[1]", "{", "null", conversations._dumped(None)):
        assert conversations._loaded(unknown) is None
    assert conversations._frozen([[1, 2.0], [3, 4.0]]) == ((1, 2.0), (3, 4.0))


def test_an_older_file_is_brought_up_to_date(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was said in it stays."""
    path = tmp_path / "c.db"
    with Conversations(path) as store:
        one, _ = begin(store, "One?")
    monkeypatch.setattr(
        conversations, "MIGRATIONS", (*conversations.MIGRATIONS, ("ALTER TABLE turns ADD COLUMN mark TEXT",))
    )
    with Conversations(path) as store:
        assert texts(store, one) == ["One?"]
        assert store._db.execute("SELECT mark FROM turns").fetchall() == [(None,)]
        assert store._db.execute("PRAGMA user_version").fetchone() == (len(conversations.MIGRATIONS),)


def test_a_migration_that_fails_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither its first statement nor the version number."""
    path = tmp_path / "c.db"
    Conversations(path).close()
    with monkeypatch.context() as patch:
        broken = ("ALTER TABLE turns ADD COLUMN mark TEXT", "ALTER TABLE nowhere ADD COLUMN mark TEXT")
        patch.setattr(conversations, "MIGRATIONS", (*conversations.MIGRATIONS, broken))
        with pytest.raises(StorageError):
            Conversations(path)
    with Conversations(path) as store:
        assert "mark" not in [row[1] for row in store._db.execute("PRAGMA table_info(turns)")]


def test_half_a_character_is_told_too() -> None:
    """SQLite keeps UTF-8, and a lone surrogate is none; what was there stays."""
    with Conversations(None) as store:
        one, _ = begin(store, "a")
        with pytest.raises(StorageError, match="half a character"):
            store.add(one, Turn(role="user", content="\ud800"))
        assert texts(store, one) == ["a"]


def test_what_cannot_be_used_is_told_in_one_line(tmp_path: Path) -> None:
    """A newer file, a damaged one, and a folder that is none."""
    newer, damaged, blocked = tmp_path / "newer.db", tmp_path / "damaged.db", tmp_path / "file" / "c.db"
    db = sqlite3.connect(newer)
    db.execute("PRAGMA user_version = 99")
    db.close()
    damaged.write_bytes(b"no database at all" * 100)
    blocked.parent.write_text("")
    for path, why in ((newer, "newer dspark-local"), (damaged, "is damaged"), (blocked, "cannot be used")):
        with pytest.raises(StorageError, match=why) as raised:
            Conversations(path)
        assert "\n" not in str(raised.value)
    assert damaged.read_bytes().startswith(b"no database")


WRITER = """
import sys
from pathlib import Path
from dspark_local.conversations import Conversations, Turn
from dspark_local.types import SamplingParams
store = Conversations(Path(sys.argv[1]))
while True:
    scrap, kept = (store.create("t", model="m", system=None, sampling=SamplingParams()) for _ in range(2))
    store.add(scrap, Turn(role="user", content="gone"))
    turn = Turn(role="assistant", content="", id=store.add(kept, Turn(role="assistant", content="")))
    for n in range(6):
        store.amend(Turn(role="assistant", content="x" * 999 * n, id=turn.id))
    print(turn.id, flush=True)
    store.delete(scrap)
"""


@pytest.mark.skipif(os.name != "posix", reason="kill -9")
def test_kill_9_leaves_an_intact_file(tmp_path: Path) -> None:
    """Whenever it strikes: the check of the file is clean, and all that was reported as kept is there, whole."""
    path, moments = tmp_path / "c.db", random.Random(7)
    for _ in range(5):
        with subprocess.Popen([sys.executable, "-c", WRITER, path], stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout
            first = writer.stdout.readline()
            time.sleep(moments.uniform(0, 0.15))
            writer.kill()
            told = [int(line) for line in [first, *writer.stdout] if line.endswith("\n")]
        with Conversations(path) as store:
            assert store._db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            assert store._db.execute("PRAGMA foreign_key_check").fetchall() == []
            kept = dict(store._db.execute("SELECT id, length(content) FROM turns"))
            assert {kept.get(turn) for turn in told} == {999 * 5}
