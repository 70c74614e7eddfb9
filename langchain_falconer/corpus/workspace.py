"""The workspace: persistent named corpora that grow and hold each text once.

A corpus is a folder of immutable JSON Lines parts and a SQLite index that lists the valid parts and the hashes of their
texts. A part is listed only when it is complete on disk; an unlisted file of a killed process is overwritten.
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
from langchain_falconer.files import digest, replacing
from langchain_falconer.settings import CorpusSettings

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_BUSY_S = 60
_MAX_REASONS = 5
_MAX_SOURCES = 3
_TABLES = """
CREATE TABLE IF NOT EXISTS parts (
    number INTEGER PRIMARY KEY, documents INTEGER NOT NULL, digest TEXT NOT NULL, added_at REAL NOT NULL);
CREATE TABLE IF NOT EXISTS texts (id TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS sources (source TEXT PRIMARY KEY, documents INTEGER NOT NULL) WITHOUT ROWID;
"""


@dataclass(frozen=True)
class CorpusPart:
    """Documents that were added together: an immutable file.

    Attributes:
        path: The file.
        documents: Number of its documents.
        digest: Hash of its bytes (16 hex digits).
    """

    path: Path
    documents: int
    digest: str


@dataclass(frozen=True)
class StoredCorpus:
    """A snapshot of a corpus of the workspace.

    Attributes:
        name: Its name.
        parts: Its parts, in the order in which they were added.
        updated: Time of the last addition (seconds since 1970, UTC).
        sources: Its most frequent sources, and the number of documents of each.
    """

    name: str
    parts: tuple[CorpusPart, ...]
    updated: float
    sources: dict[str, int]

    @property
    def documents(self) -> int:
        """Number of documents."""
        return sum(part.documents for part in self.parts)

    @property
    def paths(self) -> list[Path]:
        """The files of its parts, in order."""
        return [part.path for part in self.parts]

    @property
    def fingerprint(self) -> str:
        """A digest (16 hex digits) of the documents."""
        return digest([part.digest for part in self.parts])

    def __iter__(self) -> Iterator[Document | BadRow]:
        return iter(open_corpus_files(self.paths, stored_settings()))

    def to_dict(self) -> dict[str, Any]:
        """Return name, number of documents, date of the last addition and sources as JSON data."""
        day = time.strftime("%Y-%m-%d", time.gmtime(self.updated))
        return {"name": self.name, "documents": self.documents, "updated": day, "sources": self.sources}


@dataclass(frozen=True)
class IngestReport:
    """The result of adding documents to a corpus.

    Attributes:
        corpus: Name of the corpus.
        added: Number of new documents.
        duplicates: Number of documents that were dropped because their text was in the corpus already or was repeated.
        unreadable: Number of rows without a usable text.
        reasons: Reasons and positions of the first five unreadable rows.
        documents: Number of documents in the corpus afterwards.
    """

    corpus: str
    added: int
    duplicates: int
    unreadable: int
    reasons: tuple[str, ...]
    documents: int

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON data."""
        return {**vars(self), "reasons": list(self.reasons)}


def stored_settings() -> CorpusSettings:
    """Return the settings that read the parts of a stored corpus."""
    return CorpusSettings(text_column="text", id_column="id", max_row_bytes=2**30)


def text_id(text: str) -> str:
    """Return the hash that identifies a text (16 hex digits)."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


@dataclass(frozen=True)
class Workspace:
    """Named corpora, each in its own folder; safe for threads and processes.

    Attributes:
        folder: Parent of the folders of the corpora.
    """

    folder: Path

    def add(
        self, name: str, source: Any, settings: CorpusSettings | None = None, *, is_text: bool = False
    ) -> IngestReport:
        """Add documents to a corpus, which is created if it does not exist; texts that it holds are not added.

        The id of a document is the hash of its text; its original id and its origin (``source``, ``url``, ``title``)
        stay in its metadata. The addition is atomic: all of the new documents are added, or none.

        Args:
            name: At most 64 lower-case letters, digits, ``_`` and ``-``.
            source: What :func:`open_corpus` takes, or an iterator, which is read once.
            settings: How to read the source; unreadable rows are counted, not added.
            is_text: Whether strings in ``source`` are texts rather than paths.

        Raises:
            CorpusError: The name is invalid, there is nothing to read, or the folder cannot be written.
        """
        folder = self._folder(name)
        lenient = (settings or CorpusSettings()).model_copy(update={"on_bad_row": "record"})
        with self._spool() as spooled:
            incoming = _Incoming()
            for line in incoming.lines(_documents(source, lenient, is_text)):
                spooled.write(line)
            if not incoming.total:
                raise CorpusError("there are no documents to add; give at least one with a text")
            added = self._append(folder, spooled, incoming) if incoming.ids else 0
        total = self.corpus(name).documents if incoming.ids or _index(folder).is_file() else 0
        duplicates = incoming.total - incoming.unreadable - added
        return IngestReport(name, added, duplicates, incoming.unreadable, tuple(incoming.reasons), total)

    def corpora(self) -> list[StoredCorpus]:
        """Return all corpora, sorted by name."""
        names = sorted(p.name for p in self.folder.glob("*") if _NAME.fullmatch(p.name) and _index(p).is_file())
        return [self.corpus(name) for name in names]

    def corpus(self, name: str) -> StoredCorpus:
        """Return the corpus of this name. Raises ``CorpusError``, which lists the corpora, if it does not exist."""
        folder = self._folder(name)
        if not _index(folder).is_file():
            known = ", ".join(corpus.name for corpus in self.corpora()) or "(none)"
            raise CorpusError(f"there is no corpus '{name}'; choose one of: {known}; or add documents to create it")
        with _opened(folder) as db:
            rows = db.execute("SELECT number, documents, digest, added_at FROM parts ORDER BY number").fetchall()
            top = "SELECT source, documents FROM sources ORDER BY documents DESC, source LIMIT ?"
            sources = dict(db.execute(top, (_MAX_SOURCES,)).fetchall())
        parts = tuple(
            CorpusPart(_part(folder, number), documents, part_hash) for number, documents, part_hash, _ in rows
        )
        return StoredCorpus(name, parts, max((row[3] for row in rows), default=0.0), sources)

    def _folder(self, name: str) -> Path:
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise CorpusError(
                f"'{str(name)[:80]}' is not a corpus name; use lower-case letters, digits, '_' and '-', at most 64"
            )
        return self.folder / name

    def _spool(self) -> IO[bytes]:
        """Open a temporary file on the disk of the corpora, so that documents are written nowhere else."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            return tempfile.TemporaryFile(dir=self.folder)
        except OSError as error:
            raise _unwritable(self.folder, error) from error

    def _append(self, folder: Path, spooled: Any, incoming: _Incoming) -> int:
        """Write the documents whose texts are new as a part; return their number."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with _opened(folder) as db, _writing(db):
                insert = "INSERT OR IGNORE INTO texts VALUES (?)"
                fresh = [db.execute(insert, (text_hash,)).rowcount == 1 for text_hash in incoming.ids]
                if any(fresh):
                    self._write_part(folder, db, spooled, incoming, fresh)
                return sum(fresh)
        except OSError as error:
            raise _unwritable(folder, error) from error

    @staticmethod
    def _write_part(folder: Path, db: sqlite3.Connection, spooled: Any, incoming: _Incoming, fresh: list[bool]) -> None:
        number = db.execute("SELECT COALESCE(MAX(number), 0) + 1 FROM parts").fetchone()[0]
        part_hash = hashlib.sha256()
        spooled.seek(0)
        with replacing(_part(folder, number)) as partial, partial.open("wb") as file:
            for line, is_new in zip(spooled, fresh, strict=True):
                if is_new:
                    part_hash.update(line)
                    file.write(line)
        row = (number, sum(fresh), part_hash.hexdigest()[:16], time.time())
        db.execute("INSERT INTO parts VALUES (?, ?, ?, ?)", row)
        db.executemany(
            "INSERT INTO sources VALUES (?, 1) ON CONFLICT (source) DO UPDATE SET documents = documents + 1",
            [(source,) for source, is_new in zip(incoming.sources, fresh, strict=True) if is_new and source],
        )


def _unwritable(folder: Path, error: OSError) -> CorpusError:
    return CorpusError(
        f"{folder} cannot be written ({error.strerror}); free space or choose another folder", path=folder
    )


class _Incoming:
    """Documents to be added, without repeated texts.

    Attributes:
        ids: Hashes of the distinct texts, in order.
        sources: Their sources; empty where unknown.
        total: Number of rows.
        unreadable: Number of rows that could not be read.
        reasons: Reasons and positions of the first five of these.
    """

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.sources: list[str] = []
        self.total = self.unreadable = 0
        self.reasons: list[str] = []

    def lines(self, records: Iterator[Document | BadRow]) -> Iterator[bytes]:
        """Yield the documents with distinct texts as lines of JSON."""
        known: set[str] = set()
        for number, record in enumerate(records):
            self.total += 1
            if isinstance(record, BadRow):
                self.unreadable += 1
                if len(self.reasons) < _MAX_REASONS:
                    self.reasons.append(f"{record.where}: {record.reason}")
                continue
            text_hash = text_id(record.text)
            if text_hash in known:
                continue
            known.add(text_hash)
            self.ids.append(text_hash)
            self.sources.append(str(record.metadata.get("source") or record.metadata.get("url") or "")[:200])
            yield record_line(_with_id(record, text_hash, number))


def _with_id(record: Document, text_hash: str, number: int) -> Document:
    """Return the document with the hash of its text as id; its original id moves to the metadata."""
    is_generated = record.id in (text_hash, str(number))
    metadata = record.metadata if is_generated else {"id": record.id, **record.metadata}
    return replace(record, id=text_hash, metadata=metadata)


def _documents(source: Any, settings: CorpusSettings, is_text: bool) -> Iterator[Document | BadRow]:
    """Yield the documents of a source, without a check of ids; those of a file have its name as source."""
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
        raise CorpusError(
            f"the corpus at {folder} cannot be used ({error}); fix the cause and try again", path=folder
        ) from error


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
