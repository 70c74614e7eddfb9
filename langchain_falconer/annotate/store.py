"""The annotation store: answers, failures and the cost of LLM calls, by text hash. It holds no text."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import astuple, dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from langchain_falconer.corpus.columns import RowError
from langchain_falconer.corpus.readers import JsonLines
from langchain_falconer.errors import AnnotationError, CorpusError
from langchain_falconer.files import digest, replacing
from langchain_falconer.llm import Usage
from langchain_falconer.settings import CorpusSettings

if TYPE_CHECKING:
    from filelock import FileLock

Key = tuple[str, str]
"""Identity of a target: SHA-256 of its text, and ``"start-end"`` of the span (``""`` for the text as a whole)."""

_VERSION = 2
_BATCH = 5_000
_BUSY_S = 60
"""Seconds that a writer waits for another process to finish writing."""
_TABLES = """
CREATE TABLE IF NOT EXISTS answers (
    source TEXT, step TEXT, text TEXT, span TEXT,
    value TEXT NOT NULL, rejected INTEGER NOT NULL, created_at REAL NOT NULL, score REAL NOT NULL DEFAULT 1,
    PRIMARY KEY (source, step, text, span)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS failures (
    source TEXT, step TEXT, text TEXT, span TEXT, reason TEXT NOT NULL, created_at REAL NOT NULL,
    PRIMARY KEY (source, step, text, span)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS ledger (
    id INTEGER PRIMARY KEY, run TEXT NOT NULL, purpose TEXT NOT NULL, source TEXT NOT NULL, calls INTEGER NOT NULL,
    input_tokens INTEGER NOT NULL, output_tokens INTEGER NOT NULL, usd REAL, seconds REAL, created_at REAL NOT NULL);
CREATE INDEX IF NOT EXISTS ledger_run ON ledger (run);
"""
_SUMS = """
SELECT COALESCE(SUM(calls), 0), COALESCE(SUM(input_tokens), 0), COALESCE(SUM(output_tokens), 0),
    CASE WHEN COUNT(*) = COUNT(usd) THEN SUM(usd) END, COALESCE(SUM(seconds), 0) FROM ledger WHERE """
_WHOLE_LINES = CorpusSettings(max_row_bytes=2**30)


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """A stored answer.

    Attributes:
        value: Truth value, label, labels, or spans as ``[start, end]``.
        rejected: Number of quotes that do not occur in the text.
        is_coerced: Whether the LLM answered in another form than was asked for; not stored.
        score: Probability of a label, where the source gives one.
        quotes: The quotes that do not occur in the text; not stored.
    """

    value: Any
    rejected: int = 0
    is_coerced: bool = field(default=False, compare=False)
    score: float = 1.0
    quotes: tuple[str, ...] = field(default=(), compare=False)


def text_key(text: str, at: tuple[int, int] | None = None) -> Key:
    """Return the key of a text, or of its span ``at`` these offsets."""
    text_hash = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    return text_hash, "" if at is None else f"{at[0]}-{at[1]}"


class AnnotationStore:
    """A SQLite file of answers, failures and the ledger of LLM calls; safe for threads and processes.

    Answers are keyed by step fingerprint, text hash, span offsets and source (the LLM's name, or ``"human"``): the
    same question to the same source about the same text is never paid for twice, whichever plan asks it.

    Args:
        path: The SQLite file; created, with its folder, if missing.

    Raises:
        AnnotationError: The file cannot be opened, or is not a store of this version.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self._lock = threading.RLock()
        self._locks = self.path.with_suffix(".locks")
        try:
            self._locks.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            message = f"{self.path.parent} cannot be created ({error.strerror}); name another folder"
            raise AnnotationError(message, path=self.path.parent) from error
        with self._translated_errors(), self._file_lock("open"):  # of two that turn WAL on at once, SQLite refuses one
            self._db = self._connect()

    def _connect(self) -> sqlite3.Connection:
        db = sqlite3.connect(self.path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
        try:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = NORMAL")  # survives kill -9; a power cut can lose the last answers
            version = db.execute("PRAGMA user_version").fetchone()[0]
            if version == 1:  # answers that were paid for: all of them without a probability
                db.executescript(
                    "BEGIN IMMEDIATE; ALTER TABLE answers ADD COLUMN score REAL NOT NULL DEFAULT 1; "
                    f"PRAGMA user_version = {_VERSION}; COMMIT;"
                )
            elif version not in (0, _VERSION):
                raise sqlite3.DatabaseError(f"it has version {version}, this release reads version {_VERSION}")
            if version == 0:
                db.executescript(f"BEGIN IMMEDIATE; {_TABLES} PRAGMA user_version = {_VERSION}; COMMIT;")
        except BaseException:
            db.close()
            raise
        return db

    def close(self) -> None:
        """Close the file; the store cannot be used afterwards."""
        with self._lock:
            self._db.close()

    def __enter__(self) -> AnnotationStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def exclusive(self, source: str, steps: Iterable[str]) -> Iterator[None]:
        """Lock these steps (fingerprints) of a source; other jobs, in any process, wait.

        Locks are acquired in one order, so that jobs with common steps cannot deadlock. The operating system releases
        the locks of a killed process.
        """
        names = sorted(digest(source, step) for step in steps)
        with ExitStack() as locks:
            for name in names:
                locks.enter_context(self._file_lock(name))
            yield

    def _file_lock(self, name: str) -> FileLock:
        from filelock import FileLock

        return FileLock(self._locks / f"{name}.lock", thread_local=False)

    @contextmanager
    def _translated_errors(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            fix = "fix the cause, move the file away or name another file"
            message = f"{self.path} cannot be used as annotation store ({error}); {fix}"
            raise AnnotationError(message, path=self.path) from error

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._lock, self._translated_errors():
            yield self._db

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._reading() as db, db:  # commits, or rolls back where an error occurs
            db.execute("BEGIN IMMEDIATE")
            yield db

    def _select(
        self, columns: str, table: str, source: str, step: str, texts: Iterable[str]
    ) -> Iterator[tuple[Any, ...]]:
        """Yield the rows of a table about a step (fingerprint) and any number of texts (hashes)."""
        query = (
            f"SELECT {columns} FROM {table}"  # noqa: S608 (both are constants of this module)
            " WHERE source = ? AND step = ? AND text IN (SELECT value FROM json_each(?))"
        )
        hashes = list(dict.fromkeys(texts))
        for i in range(0, len(hashes), _BATCH):
            with self._reading() as db:
                rows = db.execute(query, (source, step, json.dumps(hashes[i : i + _BATCH]))).fetchall()
            yield from rows

    def answers(self, source: str, step: str, texts: Iterable[str]) -> dict[Key, StoredAnswer]:
        """Return the answers of ``source`` to a step (fingerprint) about these texts (hashes) and their spans."""
        rows = self._select("text, span, value, rejected, score", "answers", source, step, texts)
        return {
            (text, span): StoredAnswer(json.loads(value), rejected, score=score)
            for text, span, value, rejected, score in rows
        }

    def failures(self, source: str, step: str, texts: Iterable[str]) -> dict[Key, str]:
        """Return the reasons why ``source`` gave no answer at the last attempt, by the keys of :meth:`answers`."""
        rows = self._select("text, span, reason", "failures", source, step, texts)
        return {(text, span): reason for text, span, reason in rows}

    def answered(self, source: str, steps: Iterable[str], texts: Iterable[str]) -> set[str]:
        """Return those of the texts (hashes) about which ``source`` answered at least one of these steps."""
        hashes = list(texts)
        return {text for step in steps for (text,) in self._select("text", "answers", source, step, hashes)}

    def put(
        self, source: str, step: str, answers: Mapping[Key, StoredAnswer], failures: Mapping[Key, str] | None = None
    ) -> None:
        """Write answers and failures of a step in one transaction. An answer replaces an earlier failure."""
        now = time.time()
        with self._writing() as db:
            _insert(db, source, step, answers)
            db.executemany(
                "INSERT OR REPLACE INTO failures VALUES (?, ?, ?, ?, ?, ?)",
                [(source, step, *key, reason, now) for key, reason in (failures or {}).items()],
            )

    def replace(self, source: str, answers: Mapping[str, Mapping[Key, StoredAnswer]], texts: Iterable[str]) -> None:
        """Write answers by step; they replace all answers of ``source`` to these steps about these texts."""
        hashes = json.dumps(list(texts))
        with self._writing() as db:
            for step, step_answers in answers.items():
                db.execute(
                    "DELETE FROM answers WHERE source = ? AND step = ? AND text IN (SELECT value FROM json_each(?))",
                    (source, step, hashes),
                )
                _insert(db, source, step, step_answers)

    def reserve(self, run: str, purpose: str, source: str, estimated: Usage, check: Callable[[Usage], None]) -> int:
        """Enter a call at its estimated cost, before it is made.

        Check and entry are one transaction, for threads and processes alike. A call that is never settled (because
        the process was killed) stays in the ledger at its estimate.

        Args:
            run: Identity of the run.
            purpose: Purpose of the call, such as ``annotate``.
            source: Name of the LLM.
            estimated: Estimated cost.
            check: Receives the usage of the run so far; raises to refuse the call.

        Returns:
            Number of the entry.
        """
        with self._writing() as db:
            check(self.spent(run))
            cursor = db.execute(
                "INSERT INTO ledger (run, purpose, source, calls, input_tokens, output_tokens, usd, created_at)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (run, purpose, source, *astuple(estimated), time.time()),
            )
            assert cursor.lastrowid is not None
            return cursor.lastrowid

    def settle(self, entry: int, used: Usage, seconds: float) -> None:
        """Replace the estimate of a call by its real cost."""
        with self._writing() as db:
            db.execute(
                "UPDATE ledger SET calls = ?, input_tokens = ?, output_tokens = ?, usd = ?, seconds = ? WHERE id = ?",
                (*astuple(used), seconds, entry),
            )

    def spent(self, run: str, purpose: str | None = None) -> Usage:
        """Return the usage of a run in all its invocations; ``usd`` is ``None`` if a call had no price."""
        return self._sums("run = ? AND (? IS NULL OR purpose = ?)", run, purpose, purpose)[0]

    def annotation_totals(self, source: str) -> tuple[Usage, float, int]:
        """Return total usage of an LLM for annotation, total seconds of its calls, and the number of its answers."""
        usage, seconds = self._sums("source = ? AND purpose = 'annotate' AND seconds IS NOT NULL", source)
        with self._reading() as db:
            answers: int = db.execute("SELECT COUNT(*) FROM answers WHERE source = ?", (source,)).fetchone()[0]
        return usage, seconds, answers

    def _sums(self, condition: str, *parameters: str | None) -> tuple[Usage, float]:
        with self._reading() as db:
            *spent, seconds = db.execute(_SUMS + condition, parameters).fetchone()
        return Usage(*spent), seconds

    def export_answers(self, path: Path, source: str | None = None) -> int:
        """Write the answers (of one source, or all) as JSON lines, gzipped if the name ends in ``.gz``.

        The file holds hashes, offsets and labels, but no text.

        Returns:
            Number of rows.
        """
        query = (
            "SELECT source, step, text, span, value, rejected, score FROM answers WHERE ? IS NULL OR source = ?"
            " ORDER BY source, step, text, span"
        )
        with self._reading() as db:
            rows = db.execute(query, (source, source)).fetchall()
        with replacing_text(path) as file:
            for name, step, text, span, value, rejected, score in rows:
                row = {"source": name, "step": step, "text": text, "span": span, "value": json.loads(value)}
                file.write(_dump({**row, "rejected": rejected, **({"score": score} if score < 1 else {})}) + "\n")
        return len(rows)

    def import_answers(self, path: Path) -> int:
        """Import answers that :meth:`export_answers` wrote; answers that the store has already stay as they are.

        Returns:
            Number of new answers.

        Raises:
            AnnotationError: The file cannot be read, or a line is not an exported answer; then nothing is imported.
        """
        rows = [_exported_row(data, path, row) for row, data in json_lines(path)]
        with self._writing() as db:
            changes = db.total_changes
            db.executemany(
                "INSERT OR IGNORE INTO answers VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                [(*row, time.time(), score) for *row, score in rows],
            )
            return db.total_changes - changes


def _insert(db: sqlite3.Connection, source: str, step: str, answers: Mapping[Key, StoredAnswer]) -> None:
    now = time.time()
    db.executemany(
        "DELETE FROM failures WHERE source = ? AND step = ? AND text = ? AND span = ?",
        [(source, step, *key) for key in answers],
    )
    db.executemany(
        "INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        [(source, step, *key, _dump(a.value), a.rejected, now, a.score) for key, a in answers.items()],
    )


def _exported_row(data: Any, path: Path, row: int) -> tuple[str, str, str, str, str, int, float]:
    fields = {"source": str, "step": str, "text": str, "span": str, "rejected": int, "score": float}
    data = {"score": 1.0, **data} if isinstance(data, dict) else {}
    if "value" not in data or any(type(data.get(k)) is not t for k, t in fields.items()):
        message = f"{path}, line {row} is not an exported answer; import a file that export_answers wrote"
        raise AnnotationError(message, path=path, row=row)
    return (
        data["source"],
        data["step"],
        data["text"],
        data["span"],
        _dump(data["value"]),
        data["rejected"],
        data["score"],
    )


def _dump(data: Any) -> str:
    return json.dumps(data, ensure_ascii=False, separators=(",", ":"))


def json_lines(path: Path) -> Iterator[tuple[int, Any]]:
    """Yield line number and value of each line in a (gzipped) file of JSON lines; blank lines are skipped.

    Raises:
        AnnotationError: The file cannot be read, or a line is not a JSON object.
    """
    try:
        for row in JsonLines(Path(path), str(path), _WHOLE_LINES).rows():
            if isinstance(row.value, RowError):
                message = f"{path}, line {row.at}: {row.value}; write one JSON object per line"
                raise AnnotationError(message, path=path, row=row.at)
            yield row.at, row.value
    except CorpusError as error:
        raise AnnotationError(str(error), path=path, row=error.row) from error


@contextmanager
def replacing_text(path: Path) -> Iterator[IO[str]]:
    """Open a text file (gzipped if the name ends in ``.gz``), which replaces ``path`` only once it is complete.

    Raises:
        AnnotationError: The file cannot be written.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with (
            replacing(path) as partial,
            partial.open("wb") as raw,
            # no name and no time in the header: equal answers give equal files
            gzip.GzipFile("", "wb", fileobj=raw, mtime=0) if path.suffix == ".gz" else raw as packed,
            # a lone surrogate is written as \\udXXX, which is its escape in JSON too
            io.TextIOWrapper(packed, "utf-8", errors="backslashreplace", newline="\n") as file,
        ):
            yield file
    except OSError as error:
        raise AnnotationError(f"{path} cannot be written ({error.strerror}); name another file", path=path) from error
