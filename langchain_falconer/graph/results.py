"""Results that a home holds: rows as Parquet, and beside them the summary of how they came about."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from langchain_falconer.errors import RunError
from langchain_falconer.files import read_json, write_json
from langchain_falconer.report import RunSummary

_ID = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True)
class Results:
    """Results in a ``folder``, by id: 16 hexadecimal digits, never a path."""

    folder: Path

    def rows(self, result: str) -> Path:
        """Return the Parquet file of a result's rows. Raises ``RunError`` for what is not an id."""
        if not _ID.fullmatch(result):
            raise RunError(f"'{result[:40]}' is not a result id; use the one of an answer (16 hexadecimal digits)")
        return self.folder / f"{result}.parquet"

    def summary(self, result: str) -> RunSummary:
        """Return the summary of a result. Raises ``RunError`` if there is none of this id."""
        summary = self.find(result)
        if summary is None:
            raise RunError(f"there is no result '{result}'; ask a question first, and use the result id of its answer")
        return summary

    def find(self, result: str) -> RunSummary | None:
        """Return the summary of a result, or None."""
        data = read_json(self.folder / f"{result}.json") if self.rows(result).is_file() else None
        return RunSummary.model_validate(data) if data else None

    def save(self, result: str, summary: RunSummary) -> None:
        """Write a summary whose rows are there."""
        write_json(self.folder / f"{result}.json", summary.model_dump(mode="json"))
