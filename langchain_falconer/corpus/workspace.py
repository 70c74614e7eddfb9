"""The workspace: named corpora that outlive a process and grow, each document once.

A corpus is a folder of JSON Lines parts that are never changed, and a SQLite index that says which of them count and
which texts are known. A part is listed only once it is whole on disk, so what a killed process left is written over.
"""

from __future__ import annotations

import hashlib
import re
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from langchain_falconer.corpus.columns import record_line
from langchain_falconer.corpus.documents import BadRow, Document
from langchain_falconer.corpus.streaming import files_of, open_corpus_files, open_source
from langchain_falconer.errors import CorpusError
from langchain_falconer.files import replacing
from langchain_falconer.settings import CorpusSettings

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_BUSY_S = 60
_MOST_REASONS = 5
_MOST_SOURCES = 3
_TABLES = """
CREATE TABLE IF NOT EXISTS parts (
    number INTEGER PRIMARY KEY, documents INTEGER NOT NULL, digest TEXT NOT NULL, added_at REAL NOT NULL);
CREATE TABLE IF NOT EXISTS texts (id TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS sources (source TEXT PRIMARY KEY, documents INTEGER NOT NULL) WITHOUT ROWID;
"""


@dataclass(frozen=True)
class CorpusPart:
    """Documents that came together: a file that never changes, and the hash of its bytes (16 hex digits)."""

    path: Path
    documents: int
    digest: str


@dataclass(frozen=True)
class StoredCorpus:
    """A corpus of the workspace as it stood when it was asked for.

    Attributes:
        name: what it is known by.
        parts: its documents, in the order in which they came.
        updated: when documents were last added (seconds since 1970, UTC).
        sources: its most frequent sources, with how many documents each gave.
    """

    name: str
    parts: tuple[CorpusPart, ...]
    updated: float
    sources: dict[str, int]

    @property
    def documents(self) -> int:
        """How many documents it holds."""
        return sum(part.documents for part in self.parts)

    @property
    def paths(self) -> list[Path]:
        """The files of its parts."""
        return [part.path for part in self.parts]

    @property
    def fingerprint(self) -> str:
        """16 hex digits that change with the documents, and only with them."""
        return hashlib.sha256("\n".join(part.digest for part in self.parts).encode()).hexdigest()[:16]

    def __iter__(self) -> Iterator[Document | BadRow]:
        return iter(open_corpus_files(self.paths, stored_settings()))

    def to_dict(self) -> dict[str, Any]:
        """The corpus in a few words, as JSON data."""
        day = time.strftime("%Y-%m-%d", time.gmtime(self.updated))
        return {"name": self.name, "documents": self.documents, "updated": day, "sources": self.sources}


@dataclass(frozen=True)
class IngestReport:
    """What became of documents that were given to a corpus.

    Attributes:
        corpus: its name.
        added: documents that are new.
        duplicates: documents whose text the corpus had already, or that came twice; they are dropped.
        unreadable: rows without a usable text.
        reasons: why, for the first few of them.
        documents: how many the corpus holds now.
    """

    corpus: str
    added: int
    duplicates: int
    unreadable: int
    reasons: tuple[str, ...]
    documents: int

    def to_dict(self) -> dict[str, Any]:
        """As JSON data."""
        return {**vars(self), "reasons": list(self.reasons)}


def stored_settings() -> CorpusSettings:
    """How the parts of a stored corpus are read, whatever columns the files they came from had."""
    return CorpusSettings(text_column="text", id_column="id", max_row_bytes=2**30)


def text_id(text: str) -> str:
    """What a text is known by wherever it is not kept itself: 16 hex digits of its hash."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


@dataclass(frozen=True)
class Workspace:
    """Named corpora, each in its own folder under ``folder``; safe for threads and processes."""

    folder: Path

    def add(
        self, name: str, source: Any, settings: CorpusSettings | None = None, *, is_text: bool = False
    ) -> IngestReport:
        """Add documents to a corpus, which is made if there is none of this name. A text that it holds is not added.

        A document is known by the hash of its text; an id that it brings along, and where it comes from (``source``,
        ``url``, ``title``), stay in its metadata. All of the new documents are there at once, or none.

        Args:
            name: lower-case letters, digits, ``_`` and ``-``.
            source: what :func:`open_corpus` takes, or an iterator, which is read once.
            settings: how to read the source; rows that cannot be read are counted, not added.
            is_text: whether strings in ``source`` are texts rather than paths.

        Raises:
            CorpusError: the name is none, or there is nothing to read, or the folder cannot be written.
        """
        folder = self._folder(name)
        asked = (settings or CorpusSettings()).model_copy(update={"on_bad_row": "record"})
        with self._spool() as spooled:
            incoming = _Incoming()
            for line in incoming.lines(_documents(source, asked, is_text)):
                spooled.write(line)
            if not incoming.seen:
                raise CorpusError("there are no documents to add; give at least one with a text")
            added = self._append(folder, spooled, incoming) if incoming.ids else 0
        there = self.corpus(name).documents if incoming.ids or _index(folder).is_file() else 0
        duplicates = incoming.seen - incoming.unreadable - added
        return IngestReport(name, added, duplicates, incoming.unreadable, tuple(incoming.reasons), there)

    def corpora(self) -> list[StoredCorpus]:
        """All corpora, by name."""
        found = sorted(p.name for p in self.folder.glob("*") if _NAME.fullmatch(p.name) and _index(p).is_file())
        return [self.corpus(name) for name in found]

    def corpus(self, name: str) -> StoredCorpus:
        """The corpus of this name. Raises ``CorpusError`` if there is none, naming those there are."""
        folder = self._folder(name)
        if not _index(folder).is_file():
            known = ", ".join(corpus.name for corpus in self.corpora()) or "none yet"
            raise CorpusError(f"there is no corpus '{name}'; there is: {known}; add documents to make one")
        with _opened(folder) as db:
            rows = db.execute("SELECT number, documents, digest, added_at FROM parts ORDER BY number").fetchall()
            top = "SELECT source, documents FROM sources ORDER BY documents DESC, source LIMIT ?"
            sources = dict(db.execute(top, (_MOST_SOURCES,)).fetchall())
        parts = tuple(CorpusPart(_part(folder, number), documents, digest) for number, documents, digest, _ in rows)
        return StoredCorpus(name, parts, max((row[3] for row in rows), default=0.0), sources)

    def _folder(self, name: str) -> Path:
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise CorpusError(
                f"'{str(name)[:80]}' is no corpus name; use lower-case letters, digits, '_' and '-', at most 64"
            )
        return self.folder / name

    def _spool(self) -> IO[bytes]:
        """A nameless file beside the corpora: what comes in is written nowhere else."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            return tempfile.TemporaryFile(dir=self.folder)
        except OSError as error:
            raise _unwritable(self.folder, error) from None

    def _append(self, folder: Path, spooled: Any, incoming: _Incoming) -> int:
        """The documents whose text is new, as one more part; they are listed once they are whole on disk."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with _opened(folder) as db, _writing(db):
                fresh = [
                    db.execute("INSERT OR IGNORE INTO texts VALUES (?)", (one,)).rowcount == 1 for one in incoming.ids
                ]
                if any(fresh):
                    self._write_part(folder, db, spooled, incoming, fresh)
                return sum(fresh)
        except OSError as error:
            raise _unwritable(folder, error) from None

    @staticmethod
    def _write_part(folder: Path, db: sqlite3.Connection, spooled: Any, incoming: _Incoming, fresh: list[bool]) -> None:
        number = db.execute("SELECT COALESCE(MAX(number), 0) + 1 FROM parts").fetchone()[0]
        digest = hashlib.sha256()
        spooled.seek(0)
        with replacing(_part(folder, number)) as partial, partial.open("wb") as file:
            for line, is_new in zip(spooled, fresh, strict=True):
                if is_new:
                    digest.update(line)
                    file.write(line)
        row = (number, sum(fresh), digest.hexdigest()[:16], time.time())
        db.execute("INSERT INTO parts VALUES (?, ?, ?, ?)", row)
        db.executemany(
            "INSERT INTO sources VALUES (?, 1) ON CONFLICT (source) DO UPDATE SET documents = documents + 1",
            [(one,) for one, is_new in zip(incoming.sources, fresh, strict=True) if is_new and one],
        )


def _unwritable(folder: Path, error: OSError) -> CorpusError:
    return CorpusError(f"{folder} cannot be written ({error.strerror}); free space or name another")


class _Incoming:
    """Documents on their way in: their ids and sources, what came twice, and what could not be read."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.sources: list[str] = []
        self.seen = self.unreadable = 0
        self.reasons: list[str] = []

    def lines(self, records: Iterator[Document | BadRow]) -> Iterator[bytes]:
        known: set[str] = set()
        for number, record in enumerate(records):
            self.seen += 1
            if isinstance(record, BadRow):
                self.unreadable += 1
                if len(self.reasons) < _MOST_REASONS:
                    self.reasons.append(f"{record.where}: {record.reason}")
                continue
            own = text_id(record.text)
            if own in known:
                continue
            known.add(own)
            self.ids.append(own)
            self.sources.append(str(record.metadata.get("source") or record.metadata.get("url") or "")[:200])
            yield record_line(_renamed(record, own, number))


def _renamed(record: Document, own: str, number: int) -> Document:
    """The document under its hash; an id that it brought along is kept as metadata."""
    kept = record.metadata if record.id in (own, str(number)) else {"id": record.id, **record.metadata}
    return replace(record, id=own, metadata=kept)


def _documents(source: Any, settings: CorpusSettings, is_text: bool) -> Iterator[Document | BadRow]:
    """The documents of a source, ids taken as they come; those of a file say which."""
    files = None if is_text else files_of(source)
    if files is None:
        for record, _, _ in open_source(source, settings, once=True, is_text=is_text)._records():
            yield record
        return
    for path in files:
        for record, _, _ in open_corpus_files([path], settings)._records():
            if isinstance(record, Document) and not record.metadata.get("source"):
                yield replace(record, metadata={**record.metadata, "source": path.name})
            else:
                yield record


def _index(folder: Path) -> Path:
    return folder / "index.sqlite"


def _part(folder: Path, number: int) -> Path:
    return folder / f"{number:06d}.jsonl"


@contextmanager
def _opened(folder: Path) -> Iterator[sqlite3.Connection]:
    try:
        with closing(sqlite3.connect(_index(folder), timeout=_BUSY_S, isolation_level=None)) as db:
            db.executescript(_TABLES)
            yield db
    except sqlite3.Error as error:
        raise CorpusError(f"the corpus at {folder} cannot be used ({error}); mend the cause and try again") from None


@contextmanager
def _writing(db: sqlite3.Connection) -> Iterator[None]:
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise
