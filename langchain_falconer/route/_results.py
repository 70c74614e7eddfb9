"""Results that a home holds: rows as Parquet, and beside them the summary of how they came about."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from langchain_falconer.errors import RunError
from langchain_falconer.graph import read_json, write_json

_ID = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True)
class Results:
    """Results by id: 16 hex digits, never a path."""

    folder: Path

    def rows(self, result: str) -> Path:
        """The Parquet file of a result's rows."""
        return self.folder / f"{self._checked(result)}.parquet"

    def summary(self, result: str) -> dict[str, Any]:
        """The summary of a result. Raises ``RunError`` if there is none of this id."""
        found = self.find(self._checked(result))
        if found is None:
            raise RunError(f"there is no result '{result}'; ask a question first, and use the result id of its answer")
        return found

    def find(self, result: str) -> dict[str, Any] | None:
        """The summary of a result, or None."""
        if not self.rows(result).is_file():
            return None
        summary: dict[str, Any] | None = read_json(self._summary(result))
        return summary

    def keep(self, result: str, summary: dict[str, Any]) -> None:
        """Write down a summary whose rows are there."""
        write_json(self._summary(result), summary)

    @contextmanager
    def alone(self, result: str) -> Iterator[None]:
        """Only one thread or process at a time works on a result: whoever waits finds it done."""
        from filelock import FileLock

        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder / f".{self._checked(result)}.lock", thread_local=False):
            yield

    def _summary(self, result: str) -> Path:
        return self.folder / f"{result}.json"

    @staticmethod
    def _checked(result: str) -> str:
        if not _ID.fullmatch(result):
            raise RunError(f"'{result[:40]}' is no result id; use the one that an answer gave (16 hex digits)")
        return result
