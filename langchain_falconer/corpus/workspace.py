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
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from itertools import compress
from pathlib import Path
from typing import IO, Any

from typing_extensions import TypedDict

from langchain_falconer.corpus.columns import record_line
from langchain_falconer.corpus.documents import BadRow, Document
from langchain_falconer.corpus.partitions import Dataset, Partition
from langchain_falconer.corpus.streaming import files_of, open_corpus_files, open_source
from langchain_falconer.errors import CorpusError
from langchain_falconer.files import replacing
from langchain_falconer.records import FrozenModel
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


class CorpusData(TypedDict):
    """A stored corpus as JSON data; ``updated`` is a date (UTC)."""

    name: str
    documents: int
    updated: str
    sources: dict[str, int]


@dataclass(frozen=True)
class StoredCorpus(Dataset):
    """A snapshot of a corpus of the workspace; documents that were added together are a partition.

    Attributes:
        documents: Number of documents.
        updated: Time of the last addition (seconds since 1970, UTC).
        sources: Its most frequent sources, and the number of documents of each.
    """

    documents: int
    updated: float
    sources: dict[str, int]

    def __iter__(self) -> Iterator[Document | BadRow]:
        return iter(self.open())

    def describe(self) -> CorpusData:
        """Return name, number of documents, date of the last addition and sources as JSON data."""
        day = time.strftime("%Y-%m-%d", time.gmtime(self.updated))
        return {"name": self.name, "documents": self.documents, "updated": day, "sources": self.sources}


class IngestReport(FrozenModel):
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

        The id of a document is the hash of its text; its original id and its other columns
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
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            # A temporary file on the disk of the corpora, so that documents are written nowhere else.
            with tempfile.TemporaryFile(dir=self.folder) as spool:
                incoming = _Incoming()
                spool.writelines(incoming.lines(_documents(source, lenient, is_text)))
                if not incoming.total:
                    raise CorpusError("there are no documents to add; give at least one with a text")
                added = _append(folder, spool, incoming.sources) if incoming.sources else 0
        except OSError as error:
            message = f"{folder} cannot be written ({error.strerror}); free space or choose another folder"
            raise CorpusError(message, path=folder) from error
        return IngestReport(
            corpus=name,
            added=added,
            duplicates=incoming.total - incoming.unreadable - added,
            unreadable=incoming.unreadable,
            reasons=tuple(incoming.reasons),
            documents=self.corpus(name).documents if _index(folder).is_file() else 0,
        )

    def corpora(self) -> list[StoredCorpus]:
        """Return all corpora, sorted by name."""
        names = sorted(p.name for p in self.folder.glob("*") if _NAME.fullmatch(p.name) and _index(p).is_file())
        return [self.corpus(name) for name in names]

    def corpus(self, name: str) -> StoredCorpus:
        """Return the corpus of this name. Raises ``CorpusError``, which lists the corpora, if it does not exist."""
        folder = self._folder(name)
        if not _index(folder).is_file():
            names = ", ".join(corpus.name for corpus in self.corpora()) or "(none)"
            raise CorpusError(f"there is no corpus '{name}'; choose one of: {names}; or add documents to create it")
        with _opened(folder) as db:
            rows = db.execute("SELECT number, digest FROM parts ORDER BY number").fetchall()
            counts = "SELECT COALESCE(SUM(documents), 0), COALESCE(MAX(added_at), 0.0) FROM parts"
            documents, updated = db.execute(counts).fetchone()
            top = "SELECT source, documents FROM sources ORDER BY documents DESC, source LIMIT ?"
            sources = dict(db.execute(top, (_MAX_SOURCES,)).fetchall())
        partitions = tuple(Partition((_part(folder, number),), part_hash) for number, part_hash in rows)
        return StoredCorpus(name, partitions, stored_settings(), documents, updated, sources)

    def _folder(self, name: str) -> Path:
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise CorpusError(
                f"'{str(name)[:80]}' is not a corpus name; use lower-case letters, digits, '_' and '-', at most 64"
            )
        return self.folder / name


@dataclass
class _Incoming:
    """Documents to be added: their sources (empty where unknown) by the hash of their text, and what was left out."""

    sources: dict[str, str] = field(default_factory=dict)
    total: int = 0
    unreadable: int = 0
    reasons: list[str] = field(default_factory=list)

    def lines(self, records: Iterable[Document | BadRow]) -> Iterator[bytes]:
        """Yield the documents with distinct texts as lines of JSON."""
        for number, record in enumerate(records):
            self.total += 1
            if isinstance(record, BadRow):
                self.unreadable += 1
                if len(self.reasons) < _MAX_REASONS:
                    self.reasons.append(f"{record.where}: {record.reason}")
            elif (text_hash := text_id(record.text)) not in self.sources:
                source = record.metadata.get("source") or record.metadata.get("url") or ""
                self.sources[text_hash] = str(source)[:200]
                yield record_line(_with_id(record, text_hash, number))


def _append(folder: Path, lines: IO[bytes], sources: Mapping[str, str]) -> int:
    """Write those documents whose texts the corpus lacks as a part; return their number."""
    folder.mkdir(parents=True, exist_ok=True)
    with _opened(folder) as db, db:  # commits, or rolls back where an error occurs
        db.execute("BEGIN IMMEDIATE")
        insert = "INSERT OR IGNORE INTO texts VALUES (?)"
        is_new = [db.execute(insert, (text_hash,)).rowcount == 1 for text_hash in sources]
        if not any(is_new):
            return 0
        number = db.execute("SELECT COALESCE(MAX(number), 0) + 1 FROM parts").fetchone()[0]
        part_hash = hashlib.sha256()
        lines.seek(0)
        with replacing(_part(folder, number)) as partial, partial.open("wb") as file:
            for line in compress(lines, is_new):
                part_hash.update(line)
                file.write(line)
        row = (number, sum(is_new), part_hash.hexdigest()[:16], time.time())
        db.execute("INSERT INTO parts VALUES (?, ?, ?, ?)", row)
        db.executemany(
            "INSERT INTO sources VALUES (?, 1) ON CONFLICT (source) DO UPDATE SET documents = documents + 1",
            [(source,) for source in compress(sources.values(), is_new) if source],
        )
        return sum(is_new)


def _with_id(record: Document, text_hash: str, number: int) -> Document:
    """Return the document with the hash of its text as id; its original id moves to the metadata."""
    if record.id in (text_hash, str(number)):
        return replace(record, id=text_hash)
    own = {"metadata.id" if name == "id" else name: cell for name, cell in record.metadata.items()}
    return replace(record, id=text_hash, metadata={"id": record.id, **own})


def _documents(source: Any, settings: CorpusSettings, is_text: bool) -> Iterator[Document | BadRow]:
    """Yield the documents of a source, without a check of ids; those of a file have its name as source."""
    files = None if is_text else files_of(source)
    if files is None:
        yield from open_source(source, settings, once=True, is_text=is_text).records()
        return
    for path in files:
        for record in open_corpus_files([path], settings).records():
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
