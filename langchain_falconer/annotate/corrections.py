"""A file of corrections that grows one decision at a time, and the store that follows it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from langchain_falconer.annotate.annotation_files import read_annotations, remove_corrections, store_corrections
from langchain_falconer.annotate.store import AnnotationStore, json_lines
from langchain_falconer.errors import AnnotationError
from langchain_falconer.files import write_whole
from langchain_falconer.plan import Plan
from langchain_falconer.records import JsonObject


@dataclass(frozen=True)
class CorrectionsFile:
    """Corrections of a run in a ``path`` (JSON lines, one a text); each is in the annotation store too."""

    path: Path
    plan: Plan

    def rows(self) -> list[JsonObject]:
        """Return the corrections, in the order in which their texts came."""
        return [row for _, row in json_lines(self.path)] if self.path.is_file() else []

    def apply(self, store: AnnotationStore, rows: Sequence[JsonObject], removed: Sequence[str] = ()) -> int:
        """Write corrections, each of which replaces that of its text, and take those of other texts back.

        Returns:
            Number of corrected texts.

        Raises:
            AnnotationError: A row is not a correction of this plan; then nothing is written.
        """
        if any(not isinstance(row.get("text"), str) for row in rows):
            raise AnnotationError('a correction has no "text"; send {"text": …, "labels": {…}, "spans": {…}}')
        kept = {str(row["text"]): row for row in self.rows()}
        changed = {*removed, *(str(row["text"]) for row in rows)} & kept.keys()
        if rows:
            with TemporaryDirectory() as folder:
                written = Path(folder) / "sent.jsonl"
                _write(written, rows)
                read_annotations(written, self.plan)  # before anything is removed
                remove_corrections(store, self.plan, changed)
                store_corrections(store, self.plan, written)
        else:
            remove_corrections(store, self.plan, changed)
        for text in removed:
            kept.pop(text, None)
        kept |= {str(row["text"]): row for row in rows}
        _write(self.path, list(kept.values()))
        return len(kept)


def _write(path: Path, rows: Sequence[JsonObject]) -> None:
    write_whole(path, "".join(json.dumps(row) + "\n" for row in rows))
