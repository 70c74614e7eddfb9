"""A set of ids whose memory does not grow with the corpus: hashes in memory first, then in a temporary SQLite file."""

from __future__ import annotations

import hashlib
import sqlite3

_IN_MEMORY = 200_000  # at about 60 bytes each


class UniqueIds:
    """A set of ids by 64-bit hash. A context manager: the temporary file is deleted when the block ends."""

    def __init__(self) -> None:
        self._hashes: set[int] = set()
        self._db: sqlite3.Connection | None = None

    def __enter__(self) -> UniqueIds:
        return self

    def __exit__(self, *_: object) -> None:
        if self._db is not None:
            self._db.close()

    def add(self, record_id: str) -> bool:
        """Add an id; return whether its hash is new."""
        digest = hashlib.blake2b(record_id.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        number = int.from_bytes(digest, "big", signed=True)
        if self._db is not None:
            return self._db.execute("INSERT OR IGNORE INTO ids VALUES (?)", (number,)).rowcount == 1
        if number in self._hashes:
            return False
        self._hashes.add(number)
        if len(self._hashes) >= _IN_MEMORY:
            self._spill()
        return True

    def _spill(self) -> None:
        """Move the hashes to a temporary SQLite file, without a journal since nothing reads it after a crash."""
        self._db = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode = OFF")
        self._db.execute("PRAGMA synchronous = OFF")
        self._db.execute("PRAGMA cache_size = -16384")  # KiB
        self._db.execute("CREATE TABLE ids (hash INTEGER PRIMARY KEY)")
        self._db.execute("BEGIN")
        self._db.executemany("INSERT INTO ids VALUES (?)", ((number,) for number in sorted(self._hashes)))
        self._hashes = set()
