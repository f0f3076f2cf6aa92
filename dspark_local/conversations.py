"""Conversations, kept in one SQLite file as they go.

A turn knows the turn before it, and a conversation its last one: to edit or to regenerate is to go on from an earlier
turn, and what was said before stays in the file. WAL: a process that is killed loses at most what it was writing.
"""

from __future__ import annotations

import json
import sqlite3
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import platformdirs

from dspark_local.errors import StorageError, UsageError
from dspark_local.types import SamplingParams

if TYPE_CHECKING:
    from collections.abc import Iterator

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        """CREATE TABLE conversations (
            id INTEGER PRIMARY KEY,
            title TEXT NOT NULL,
            model TEXT NOT NULL,
            system TEXT,
            sampling TEXT NOT NULL,
            updated REAL NOT NULL,
            last INTEGER REFERENCES turns (id)
        ) STRICT""",
        """CREATE TABLE turns (
            id INTEGER PRIMARY KEY,
            conversation INTEGER NOT NULL REFERENCES conversations (id) ON DELETE CASCADE,
            before INTEGER REFERENCES turns (id) ON DELETE CASCADE,
            role TEXT NOT NULL,
            content TEXT NOT NULL,
            thinking TEXT NOT NULL
        ) STRICT""",
        "CREATE INDEX turns_of ON turns (conversation)",
        "CREATE INDEX turns_after ON turns (before)",
    ),
)
"""What leads from version n to n + 1, each in one transaction. What was released is never changed: add one."""

_LONGEST, _MOST = 2000, 200  # characters of a question that is recalled, and how many of them
_PATIENCE = 5.0  # seconds to wait for another process that writes


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One message; `role` is user or assistant."""

    role: str
    content: str
    thinking: str = ""
    id: int | None = None  # None while it is not in the file


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """What the list shows, and how its answers are drawn, None as the chat would; `updated` in seconds since 1970."""

    id: int
    title: str
    model: str
    updated: float
    system: str | None = None
    sampling: SamplingParams | None = None


def location() -> Path:
    """Where a user's conversations are kept."""
    return Path(platformdirs.user_data_dir("dspark-local")) / "conversations.db"


class Conversations:
    """The file, or with None a store that ends with the program. For one thread.

    Every method raises StorageError when the file cannot be read or written.
    """

    def __init__(self, path: Path | None) -> None:
        self._where = str(path) if path else "memory"
        with self._told():
            if path:
                path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._db = sqlite3.connect(path or ":memory:", timeout=_PATIENCE, isolation_level=None)
            try:
                self._db.execute("PRAGMA journal_mode = WAL")
                self._db.execute("PRAGMA synchronous = NORMAL")
                self._migrate()
                self._db.execute("PRAGMA foreign_keys = ON")
            except BaseException:
                self._db.close()
                raise

    def create(self, title: str, *, model: str, system: str | None, sampling: SamplingParams | None) -> int:
        """Begin a conversation; returns its id."""
        with self._writing():
            row = self._db.execute(
                "INSERT INTO conversations (title, model, system, sampling, updated)"
                " VALUES (?, ?, ?, ?, ?) RETURNING id",
                (title, model, system, _dumped(sampling), time.time()),
            ).fetchone()
        return int(row[0])

    def add(self, conversation: int, turn: Turn) -> int:
        """Put a turn behind the last one; returns its id."""
        with self._writing():
            row = self._db.execute(
                "INSERT INTO turns (conversation, before, role, content, thinking)"
                " SELECT id, last, ?, ?, ? FROM conversations WHERE id = ? RETURNING id",
                (turn.role, turn.content, turn.thinking, conversation),
            ).fetchone()
            if row is None:
                raise StorageError("this conversation was deleted meanwhile; Ctrl+N starts a new one")
            self._set(conversation, last=row[0], updated=time.time())
        return int(row[0])

    def amend(self, turn: Turn) -> None:
        """Replace what a turn says: an answer grows."""
        with self._writing():
            values = (turn.content, turn.thinking, turn.id)
            self._db.execute("UPDATE turns SET content = ?, thinking = ? WHERE id = ?", values)

    def rewind(self, conversation: int, last: int | None) -> None:
        """Let the conversation end with an earlier turn, or before the first; the later ones stay in the file."""
        with self._writing():
            self._set(conversation, last=last)

    def siblings(self, turn: int) -> list[int]:
        """What was said in this place: the turn itself, and those that it replaced or that replaced it, by age."""
        with self._told():
            rows = self._db.execute(
                "SELECT other.id FROM turns AS one JOIN turns AS other"
                " ON other.conversation = one.conversation AND other.before IS one.before"
                " WHERE one.id = ? ORDER BY other.id",
                (turn,),
            ).fetchall()
        return [i for (i,) in rows]

    def switch(self, conversation: int, turn: int) -> None:
        """Let the conversation run through this turn, and on to the latest that was said behind it."""
        with self._writing():
            row = self._db.execute(
                "WITH RECURSIVE path (id, n) AS ("
                " SELECT ?, 0 UNION ALL"
                " SELECT (SELECT max(id) FROM turns WHERE before = path.id), n + 1 FROM path WHERE id IS NOT NULL)"
                " SELECT id FROM path WHERE id IS NOT NULL ORDER BY n DESC LIMIT 1",
                (turn,),
            ).fetchone()
            self._set(conversation, last=row[0])

    def rename(self, conversation: int, title: str) -> None:
        """Give it another title."""
        with self._writing():
            self._set(conversation, title=title)

    def set_up(self, conversation: int, *, system: str | None, sampling: SamplingParams | None) -> None:
        """Change how its next answers are drawn."""
        with self._writing():
            self._set(conversation, system=system, sampling=_dumped(sampling))

    def delete(self, conversation: int) -> None:
        """Remove it and all that was said in it."""
        with self._writing():
            self._set(conversation, last=None)
            self._db.execute("DELETE FROM conversations WHERE id = ?", (conversation,))

    def find(self, text: str = "") -> list[Conversation]:
        """Those with `text` in their title or in a turn, the latest first."""
        like = "%" + text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"
        with self._told():
            rows = self._db.execute(
                "SELECT id, title, model, updated, system, sampling FROM conversations AS c"
                " WHERE title LIKE ?1 ESCAPE '\\'"
                " OR EXISTS (SELECT 1 FROM turns WHERE conversation = c.id AND content LIKE ?1 ESCAPE '\\')"
                " ORDER BY updated DESC, id DESC",
                (like,),
            ).fetchall()
        return [
            Conversation(id=i, title=title, model=model, updated=updated, system=system, sampling=_loaded(sampling))
            for i, title, model, updated, system, sampling in rows
        ]

    def turns(self, conversation: int) -> list[Turn]:
        """What was said, from the first turn to the last."""
        with self._told():
            rows = self._db.execute(
                "WITH RECURSIVE path (id, n) AS ("
                " SELECT last, 0 FROM conversations WHERE id = ? AND last IS NOT NULL"
                " UNION ALL SELECT before, n + 1 FROM turns JOIN path USING (id) WHERE before IS NOT NULL)"
                " SELECT id, role, content, thinking FROM turns JOIN path USING (id) ORDER BY n DESC",
                (conversation,),
            ).fetchall()
        return [Turn(id=i, role=role, content=content, thinking=thinking) for i, role, content, thinking in rows]

    def questions(self) -> list[str]:
        """What users wrote in all conversations, each once, the latest last; nothing as long as a document."""
        with self._told():
            rows = self._db.execute(
                "SELECT content FROM turns WHERE role = 'user' AND length(content) <= ?"
                " GROUP BY content ORDER BY max(id) DESC LIMIT ?",
                (_LONGEST, _MOST),
            ).fetchall()
        return [content for (content,) in reversed(rows)]

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _set(self, conversation: int, **values: object) -> None:
        columns = ", ".join(f"{name} = ?" for name in values)
        self._db.execute(f"UPDATE conversations SET {columns} WHERE id = ?", (*values.values(), conversation))  # noqa: S608 - our own column names

    def _migrate(self) -> None:
        while True:
            with self._writing():  # two programs that start at once take turns
                version = self._db.execute("PRAGMA user_version").fetchone()[0]
                if version == len(MIGRATIONS):
                    return
                if version > len(MIGRATIONS):
                    raise StorageError(f"{self._where} was written by a newer dspark-local; update this one")
                for statement in MIGRATIONS[version]:
                    self._db.execute(statement)
                self._db.execute(f"PRAGMA user_version = {version + 1}")

    @contextmanager
    def _writing(self) -> Iterator[None]:
        with self._told():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except UnicodeEncodeError as error:
            raise StorageError(f"{self._where} cannot keep half a character: {error.reason}") from error
        except sqlite3.Error as error:
            what = "is damaged; move it away" if type(error) is sqlite3.DatabaseError else f"cannot be used: {error}"
            raise StorageError(f"{self._where} {what}") from error
        except OSError as error:
            raise StorageError(f"{self._where} cannot be used: {error.strerror}") from error


def _dumped(sampling: SamplingParams | None) -> str:
    return json.dumps(asdict(sampling) if sampling else None)


def _loaded(kept: str) -> SamplingParams | None:
    """What another version knew beyond ours is left out; what it allowed and we do not is as good as none."""
    known = {f.name for f in fields(SamplingParams)}
    try:
        values = json.loads(kept)
        return SamplingParams(**{k: _frozen(v) for k, v in values.items() if k in known}) if values else None
    except (UsageError, TypeError, ValueError, AttributeError):
        return None


def _frozen(value: Any) -> Any:  # noqa: ANN401 - whatever JSON holds
    return tuple(map(_frozen, value)) if isinstance(value, list) else value
