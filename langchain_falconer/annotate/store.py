"""The annotation store: what was answered about which text, what it cost, and what failed. It holds no text."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import sqlite3
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from langchain_falconer.errors import AnnotationError
from langchain_falconer.files import digest, replacing
from langchain_falconer.llm import Usage

Key = tuple[str, str]
"""Which target an answer is about: SHA-256 of the text, and ``"start-end"`` of the span (``""`` for the text)."""

_VERSION = 1
_BATCH = 5_000
_BUSY_S = 60
"""How long a writer waits for another process to finish writing."""
_TABLES = """
CREATE TABLE IF NOT EXISTS answers (
    source TEXT, step TEXT, text TEXT, span TEXT,
    value TEXT NOT NULL, rejected INTEGER NOT NULL, created_at REAL NOT NULL,
    PRIMARY KEY (source, step, text, span)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS failures (
    source TEXT, step TEXT, text TEXT, span TEXT, reason TEXT NOT NULL, created_at REAL NOT NULL,
    PRIMARY KEY (source, step, text, span)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS ledger (
    id INTEGER PRIMARY KEY, run TEXT NOT NULL, purpose TEXT NOT NULL, source TEXT NOT NULL, calls INTEGER NOT NULL,
    input_tokens INTEGER NOT NULL, output_tokens INTEGER NOT NULL, usd REAL, seconds REAL, created_at REAL NOT NULL);
CREATE INDEX IF NOT EXISTS ledger_run ON ledger (run);
"""


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """A stored answer: truth value, label, labels, or spans as ``[start, end]``; and how many quotes had no place."""

    value: Any
    rejected: int = 0


def text_key(text: str, at: tuple[int, int] | None = None) -> Key:
    """The key of a text, or of the span ``at`` these offsets of it."""
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    return digest, "" if at is None else f"{at[0]}-{at[1]}"


class AnnotationStore:
    """A SQLite file of answers, failures and the ledger of LLM calls; safe for threads and processes.

    Answers are keyed by step fingerprint, text hash, span offsets and source (the LLM's name, or ``"human"``): the
    same question to the same source about the same text is never paid twice, whichever plan asks it.

    Args:
        path: the SQLite file; made, with its folder, where missing.

    Raises:
        AnnotationError: the file cannot be opened, or is no store of this version.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self._lock = threading.RLock()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise AnnotationError(f"{self.path.parent} cannot be made ({error.strerror}); name another place") from None
        with self._explaining():
            self._db = self._opened()

    def _opened(self) -> sqlite3.Connection:
        db = sqlite3.connect(self.path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
        try:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = NORMAL")  # survives kill -9; a power cut can lose the last answers
            version = db.execute("PRAGMA user_version").fetchone()[0]
            if version not in (0, _VERSION):
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
        """Hold the right to ask ``source`` these steps (fingerprints); others, in any process, wait for it.

        Locks are taken in one order, so that jobs with common steps cannot wait for each other in a circle. The
        operating system releases the locks of a process that is killed.
        """
        from filelock import FileLock

        folder = self.path.with_suffix(".locks")
        folder.mkdir(parents=True, exist_ok=True)
        names = sorted(digest(source, step) for step in steps)
        with ExitStack() as locks:
            for name in names:
                locks.enter_context(FileLock(folder / f"{name}.lock", thread_local=False))
            yield

    @contextmanager
    def _explaining(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise AnnotationError(
                f"{self.path} cannot be used as annotation store ({error}); mend the cause, move the file away "
                "or name another place"
            ) from None

    @contextmanager
    def _using(self) -> Iterator[sqlite3.Connection]:
        with self._lock, self._explaining():
            yield self._db

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._using() as db:
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
                db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise

    def _of_texts(self, query: str, texts: Iterable[str], *parameters: Any) -> Iterator[tuple[Any, ...]]:
        """Rows of a query whose last parameter is a JSON list of text hashes, for any number of them."""
        hashes = list(dict.fromkeys(texts))
        for i in range(0, len(hashes), _BATCH):
            with self._using() as db:
                rows = db.execute(query, (*parameters, json.dumps(hashes[i : i + _BATCH]))).fetchall()
            yield from rows

    def answers(self, source: str, step: str, texts: Iterable[str]) -> dict[Key, StoredAnswer]:
        """What ``source`` answered to the step of this fingerprint, about these texts (hashes) and spans of them."""
        query = (
            "SELECT text, span, value, rejected FROM answers"
            " WHERE source = ? AND step = ? AND text IN (SELECT value FROM json_each(?))"
        )
        return {
            (text, span): StoredAnswer(json.loads(value), rejected)
            for text, span, value, rejected in self._of_texts(query, texts, source, step)
        }

    def failures(self, source: str, step: str, texts: Iterable[str]) -> dict[Key, str]:
        """Why ``source`` gave no answer when it was last asked; by the same keys as :meth:`answers`."""
        query = (
            "SELECT text, span, reason FROM failures"
            " WHERE source = ? AND step = ? AND text IN (SELECT value FROM json_each(?))"
        )
        return {(text, span): reason for text, span, reason in self._of_texts(query, texts, source, step)}

    def answered(self, source: str, steps: Iterable[str], texts: Iterable[str]) -> set[str]:
        """Those of these texts (hashes) about which ``source`` answered at least one of these steps."""
        query = "SELECT text FROM answers WHERE source = ? AND step = ? AND text IN (SELECT value FROM json_each(?))"
        hashes = list(texts)
        return {text for step in steps for (text,) in self._of_texts(query, hashes, source, step)}

    def put(
        self, source: str, step: str, answers: Mapping[Key, StoredAnswer], failures: Mapping[Key, str] | None = None
    ) -> None:
        """Write answers and failures to one step, at once and together. An answer settles an earlier failure."""
        now = time.time()
        with self._writing() as db:
            _insert(db, source, step, answers)
            db.executemany(
                "INSERT OR REPLACE INTO failures VALUES (?, ?, ?, ?, ?, ?)",
                [(source, step, *key, reason, now) for key, reason in (failures or {}).items()],
            )

    def replace(self, source: str, answers: Mapping[str, Mapping[Key, StoredAnswer]], texts: Iterable[str]) -> None:
        """Write answers by step, in the place of all that ``source`` answered to these steps about these texts."""
        hashes = json.dumps(list(texts))
        with self._writing() as db:
            for step, given in answers.items():
                db.execute(
                    "DELETE FROM answers WHERE source = ? AND step = ? AND text IN (SELECT value FROM json_each(?))",
                    (source, step, hashes),
                )
                _insert(db, source, step, given)

    def reserve(self, run: str, purpose: str, source: str, estimated: Usage, check: Callable[[Usage], None]) -> int:
        """Enter a call that is about to be made, at its estimated cost; returns the entry's number.

        ``check`` sees what the run has spent and may raise. Checking and entering are one transaction, for threads
        and processes alike. A call that never settles (the process was killed) stays in the ledger at its estimate.
        """
        with self._writing() as db:
            check(self.spent(run))
            row = (
                run,
                purpose,
                source,
                estimated.calls,
                estimated.input_tokens,
                estimated.output_tokens,
                estimated.usd,
            )
            cursor = db.execute(
                "INSERT INTO ledger (run, purpose, source, calls, input_tokens, output_tokens, usd, created_at)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (*row, time.time()),
            )
            assert cursor.lastrowid is not None
            return cursor.lastrowid

    def settle(self, entry: int, used: Usage, seconds: float) -> None:
        """Put the real cost of a call in the place of its estimate."""
        with self._writing() as db:
            db.execute(
                "UPDATE ledger SET calls = ?, input_tokens = ?, output_tokens = ?, usd = ?, seconds = ? WHERE id = ?",
                (used.calls, used.input_tokens, used.output_tokens, used.usd, seconds, entry),
            )

    def spent(self, run: str, purpose: str | None = None) -> Usage:
        """What a run has spent so far, all its invocations together; ``usd`` is ``None`` if a call had no price."""
        query = (
            "SELECT COALESCE(SUM(calls), 0), COALESCE(SUM(input_tokens), 0), COALESCE(SUM(output_tokens), 0),"
            " CASE WHEN COUNT(*) = COUNT(usd) THEN SUM(usd) END"
            " FROM ledger WHERE run = ? AND (? IS NULL OR purpose = ?)"
        )
        with self._using() as db:
            return Usage(*db.execute(query, (run, purpose, purpose)).fetchone())

    def pace(self, source: str) -> tuple[Usage, float, int]:
        """What annotating with an LLM took in all, its seconds (of calls one by one), and the answers it gave."""
        query = (
            "SELECT COALESCE(SUM(calls), 0), COALESCE(SUM(input_tokens), 0), COALESCE(SUM(output_tokens), 0),"
            " COALESCE(SUM(seconds), 0) FROM ledger WHERE source = ? AND purpose = 'annotate' AND seconds IS NOT NULL"
        )
        with self._using() as db:
            *spent, seconds = db.execute(query, (source,)).fetchone()
            answers = db.execute("SELECT COUNT(*) FROM answers WHERE source = ?", (source,)).fetchone()[0]
        return Usage(*spent), seconds, answers

    def export_answers(self, path: Path, source: str | None = None) -> int:
        """Write the answers (of one source, or all) as JSON lines, gzipped if the name ends in ``.gz``.

        The file holds hashes, offsets and labels, no text. Returns the number of rows.
        """
        query = (
            "SELECT source, step, text, span, value, rejected FROM answers WHERE ? IS NULL OR source = ?"
            " ORDER BY source, step, text, span"
        )
        with self._using() as db:
            rows = db.execute(query, (source, source)).fetchall()
        with replacing_text(path) as file:
            for name, step, text, span, value, rejected in rows:
                row = {"source": name, "step": step, "text": text, "span": span, "value": json.loads(value)}
                file.write(_dump({**row, "rejected": rejected}) + "\n")
        return len(rows)

    def import_answers(self, path: Path) -> int:
        """Take over answers that :meth:`export_answers` wrote; what the store knows already stays as it is.

        Returns the number of new answers.

        Raises:
            AnnotationError: the file cannot be read or a line is no exported answer; nothing is imported then.
        """
        rows = [_exported(line, where) for where, line in json_lines(path)]
        with self._writing() as db:
            before = db.total_changes
            db.executemany(
                "INSERT OR IGNORE INTO answers VALUES (?, ?, ?, ?, ?, ?, ?)", [(*row, time.time()) for row in rows]
            )
            return db.total_changes - before


def _insert(db: sqlite3.Connection, source: str, step: str, answers: Mapping[Key, StoredAnswer]) -> None:
    now = time.time()
    db.executemany(
        "DELETE FROM failures WHERE source = ? AND step = ? AND text = ? AND span = ?",
        [(source, step, *key) for key in answers],
    )
    db.executemany(
        "INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?, ?, ?, ?)",
        [(source, step, *key, _dump(a.value), a.rejected, now) for key, a in answers.items()],
    )


def _exported(row: Any, where: str) -> tuple[str, str, str, str, str, int]:
    fields = {"source": str, "step": str, "text": str, "span": str, "rejected": int}
    if not isinstance(row, dict) or "value" not in row or any(type(row.get(k)) is not t for k, t in fields.items()):
        raise AnnotationError(f"{where} is no exported answer; import a file that export_answers wrote")
    return row["source"], row["step"], row["text"], row["span"], _dump(row["value"]), row["rejected"]


def _dump(data: Any) -> str:
    return json.dumps(data, ensure_ascii=False, separators=(",", ":"))


def json_lines(path: Path) -> Iterator[tuple[str, Any]]:
    """The values in a (gzipped) file of JSON lines, each with its place (``file, line 3``); blank lines are skipped.

    Raises:
        AnnotationError: the file cannot be read, is not UTF-8 or a line is not JSON.
    """
    try:
        with Path(path).open("rb") as raw, _unzipped(raw, path) as file:
            for number, line in enumerate(file, 1):
                where = f"{path}, line {number}"
                if line.strip():
                    yield where, _parsed(line, where, first=number == 1)
    except (OSError, EOFError, zlib.error) as error:  # gzip.BadGzipFile is an OSError
        reason = getattr(error, "strerror", None) or str(error)
        raise AnnotationError(f"{path} cannot be read ({reason}); name a file of JSON lines") from None


def _unzipped(raw: IO[bytes], path: Path) -> IO[bytes] | gzip.GzipFile:
    return gzip.GzipFile(fileobj=raw) if Path(path).suffix == ".gz" else raw


def _parsed(line: bytes, where: str, *, first: bool) -> Any:
    try:
        return json.loads(line.decode("utf-8-sig" if first else "utf-8"))
    except UnicodeDecodeError as error:
        raise AnnotationError(f"{where} is not UTF-8 (byte {error.start + 1}); save the file as UTF-8") from None
    except json.JSONDecodeError as error:
        raise AnnotationError(
            f"{where}, column {error.colno} is not JSON ({error.msg}); write one object a line"
        ) from None
    except (ValueError, RecursionError):
        raise AnnotationError(f"{where} is not JSON that can be read; write one object a line") from None


@contextmanager
def replacing_text(path: Path) -> Iterator[IO[str]]:
    """A text file to write (gzipped if the name ends in ``.gz``), which takes its place only when complete.

    Raises:
        AnnotationError: it cannot be written.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with (
            replacing(path) as partial,
            partial.open("wb") as raw,
            _zipped(raw, path) as packed,
            # a lone surrogate is written as \\udXXX, which is its escape in JSON too
            io.TextIOWrapper(packed, "utf-8", errors="backslashreplace", newline="\n") as file,
        ):
            yield file
    except OSError as error:
        raise AnnotationError(f"{path} cannot be written ({error.strerror}); name another place") from None


def _zipped(raw: IO[bytes], path: Path) -> Any:
    # no name and no time in the header: equal answers make equal files
    return gzip.GzipFile("", "wb", fileobj=raw, mtime=0) if path.suffix == ".gz" else raw
