"""The index of a session's pages: found by number or by words, read from the journal itself.

An SQLite file beside the journal, with a table of where each page stands and a full-text index of the words.
No text is taken from it: what is shown comes out of the journal's lines, hashes checked. So it can be lost:
one that is missing, damaged, of another version or of another journal is made again, and where there is no
room for the file it is made in memory.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from harness.errors import JournalError
from harness.events import CallOutcome, Checkpointed, MessageAdded, Rewound
from harness.journal.reading import regular
from harness.journal.record import FILE, MAX_LINE, BadLine, Head, Record, decode
from harness.memory.journal_pages import RESULT, Numbered, Numbering
from harness.memory.words import spaced, text_of, words
from harness.messages import Part

T = TypeVar("T")

INDEX = "pages.sqlite"
"""Its name in a session's directory."""
VERSION = 4
MAX_WORDS = 32
"""Of a query."""
_SCHEMA = """
CREATE TABLE page (
    id INTEGER PRIMARY KEY, number INTEGER, kind TEXT, name TEXT, turn INTEGER, at INTEGER, place INTEGER,
    before INTEGER, live INTEGER);
CREATE INDEX numbers ON page (number);
CREATE TABLE mark (checkpoint INTEGER PRIMARY KEY, last INTEGER, numbering TEXT);
CREATE VIRTUAL TABLE body USING fts5(text, content='', tokenize='porter unicode61');
CREATE TABLE state (one INTEGER PRIMARY KEY CHECK (one = 1), value TEXT);
"""


@dataclass(frozen=True)
class Found:
    """A page, as the journal has it: redacted."""

    id: str
    kind: str
    name: str
    turn: int
    text: str


class Index:
    """The pages of one session's journal. Its methods block; several threads may call them."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._lock = threading.Lock()
        self._spare: sqlite3.Connection | None = None
        """In place of a file that cannot be had."""

    def page(self, page_id: str) -> Found | None:
        """The page of this name; None where there is none. JournalError when the journal is damaged."""
        number = page_id.removeprefix("p")
        if not (number.isascii() and number.isdigit()) or len(number) > 9:
            return None
        sql = "SELECT number, kind, name, turn, at, place FROM page WHERE number = ? AND live"
        found = self._ask(sql, (int(number),))
        return found[0] if found else None

    def search(self, query: str, limit: int) -> list[Found]:
        """The pages that hold most of the query's words, best first. The query is words and nothing else."""
        sql = (
            "SELECT number, kind, name, turn, at, place FROM body JOIN page ON page.id = body.rowid "
            "WHERE body MATCH ? AND live ORDER BY body.rank, page.id DESC LIMIT ?"
        )
        phrases = phrased(query)
        return self._ask(sql, (phrases, limit)) if phrases else []

    def _ask(self, sql: str, values: tuple[object, ...]) -> list[Found]:
        def asked(db: sqlite3.Connection, journal: BinaryIO) -> list[Found]:
            _catch_up(db, journal)
            return [_read(journal, row) for row in db.execute(sql, values)]

        with self._lock, _opened(self._directory) as journal:
            return self._with_index(lambda db: asked(db, journal))

    def _with_index(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """With the index as it is; else with one made anew; else, as on a full disk, with one in memory."""
        for again in (False, True):
            if self._spare is not None:
                break
            with contextlib.suppress(sqlite3.Error, OSError, _Stale):
                return self._with_file(work, again)
        if self._spare is None:
            self._spare = sqlite3.connect(":memory:", check_same_thread=False)
            _make(self._spare)
        try:
            return work(self._spare)
        except (sqlite3.Error, _Stale) as exc:
            self._spare = None
            raise JournalError(f"no index of the journal can be made ({exc})", code="io") from exc

    def _with_file(self, work: Callable[[sqlite3.Connection], T], again: bool) -> T:
        path = self._directory / INDEX
        if again:
            path.unlink(missing_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600))
        path.chmod(0o600)
        with contextlib.closing(sqlite3.connect(path)) as db:
            # It can be made again, so nothing waits for the disk, and no second file is left by a crash.
            db.execute("PRAGMA journal_mode = MEMORY")
            db.execute("PRAGMA synchronous = OFF")
            if not path.stat().st_size:
                _make(db)
            if db.execute("PRAGMA user_version").fetchone()[0] != VERSION:
                raise _Stale
            return work(db)


def phrased(query: str) -> str:
    """The query in the index's language: every word a phrase of its own, any of them enough.

    `src/app.py` is looked for as it stands, which counts most, and by its parts.
    """
    phrases: dict[str, None] = {}
    for word in query.split()[:MAX_WORDS]:
        parts = words(word)
        phrases.update(dict.fromkeys([" ".join(parts), *parts] if parts else []))
    return " OR ".join(f'"{spaced(phrase)}"' for phrase in phrases)


class _Stale(Exception):
    """The index is of another version, or of another journal."""


@dataclass
class _State:
    """How far into the journal the index reaches."""

    end: int = 0
    """Bytes of the lines that are in."""
    last: int = 0
    """Where the last of them begins."""
    seq: int = 0
    hash: str = Head().hash
    page: int | None = None
    """The last page in force, by its row."""


def _make(db: sqlite3.Connection) -> None:
    db.executescript(_SCHEMA)
    _save(db, _State(), Numbering())
    db.execute(f"PRAGMA user_version = {VERSION}")
    db.commit()


def _save(db: sqlite3.Connection, state: _State, numbering: Numbering) -> None:
    value = json.dumps([asdict(state), asdict(numbering)])
    db.execute("INSERT OR REPLACE INTO state VALUES (1, ?)", (value,))


def _load(db: sqlite3.Connection) -> tuple[_State, Numbering]:
    try:
        state, numbering = json.loads(db.execute("SELECT value FROM state").fetchone()[0])
        return _State(**state), _numbering(numbering)
    except (TypeError, ValueError, KeyError) as exc:
        raise _Stale from exc


def _numbering(kept: dict[str, Any]) -> Numbering:
    awaited = [(call_id, number) for call_id, number in kept["awaited"]]
    return Numbering(kept["next"], kept["turn"], awaited)


def _catch_up(db: sqlite3.Connection, journal: BinaryIO) -> None:
    """Take in the lines that have come since, all of them or none."""
    state, numbering = _load(db)
    if state.seq:
        # The same journal still? The last line that was taken in tells, and no other need be read.
        journal.seek(state.last)
        if _decoded(journal.readline(MAX_LINE + 1), None, _Stale()).hash != state.hash:
            raise _Stale
    journal.seek(state.end)
    with db:
        while (line := journal.readline(MAX_LINE + 1)).endswith(b"\n"):
            record = _decoded(line, Head(state.seq, state.hash), _damaged(state.seq + 1))
            last = state.page
            match record.entry:
                case Checkpointed(number=number):
                    kept = (number, last, json.dumps(asdict(numbering)))
                    db.execute("INSERT OR REPLACE INTO mark VALUES (?, ?, ?)", kept)
                case Rewound(to=number):
                    last, numbering = _go_back(db, number)
                case entry:
                    for page in numbering.feed(entry):
                        last = _insert(db, page, state.end, last)
            state = _State(state.end + len(line), state.end, record.seq, record.hash, last)
        _save(db, state, numbering)


def _go_back(db: sqlite3.Connection, checkpoint: int) -> tuple[int | None, Numbering]:
    """In force are the pages that were so at that checkpoint, no others; their numbers are given again."""
    found = db.execute("SELECT last, numbering FROM mark WHERE checkpoint = ?", (checkpoint,)).fetchone()
    if found is None:
        raise JournalError(
            f"the journal goes back to checkpoint {checkpoint}, which it never had", code="corrupt"
        )
    db.execute("UPDATE page SET live = 0")
    db.execute(
        "WITH RECURSIVE chain(id) AS (SELECT ? UNION ALL SELECT before FROM page JOIN chain USING (id)) "
        "UPDATE page SET live = 1 WHERE id IN (SELECT id FROM chain WHERE id IS NOT NULL)",
        (found[0],),
    )
    return found[0], _numbering(json.loads(found[1]))


def _insert(db: sqlite3.Connection, page: Numbered, at: int, before: int | None) -> int:
    """The row of the new page, which comes after that one."""
    values = (page.number, page.kind, page.name, page.turn, at, page.place, before)
    row = db.execute("INSERT INTO page VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, 1)", values).lastrowid
    assert row is not None
    # What was recalled would be found before what it was recalled from.
    if page.kind != "thinking" and page.name != "recall":
        text = spaced(text_of(page.part)).encode(errors="replace").decode()
        db.execute("INSERT INTO body(rowid, text) VALUES (?, ?)", (row, text))
    return row


def _read(journal: BinaryIO, row: Sequence[object]) -> Found:
    number, kind, name, turn, at, place = row
    if not (isinstance(at, int) and isinstance(place, int) and isinstance(turn, int)):
        raise _Stale
    journal.seek(at)
    part = _part(_decoded(journal.readline(MAX_LINE + 1), None, _Stale()), place)
    return Found(f"p{number}", str(kind), str(name), turn, text_of(part))


def _part(record: Record, place: int) -> Part:
    match record.entry:
        case CallOutcome() if place == RESULT:
            return record.entry.result
        case MessageAdded() if 0 <= place < len(record.entry.message.parts):
            return record.entry.message.parts[place]
    raise _Stale


def _decoded(line: bytes, after: Head | None, otherwise: Exception) -> Record:
    try:
        return decode(line, after)
    except BadLine as exc:
        raise otherwise from exc


def _damaged(line: int) -> JournalError:
    return JournalError(f"the journal is damaged at line {line}; see `usermode verify`", code="corrupt")


def _opened(directory: Path) -> BinaryIO:
    try:
        return regular(directory / FILE)
    except OSError as exc:
        raise JournalError(f"the journal cannot be read: {exc.strerror}", code="io") from exc
