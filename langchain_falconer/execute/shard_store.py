"""The ledger of a run: a folder of finished shards, each there whole or not at all, and what went into each."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from langchain_falconer.corpus import BadRow, Document
from langchain_falconer.execute.statistics import RowStatistics
from langchain_falconer.files import write_whole


@dataclass(frozen=True)
class ShardEntry:
    """What stands beside a finished shard: the digest of the rows that went in, counts over those that came out."""

    digest: str
    statistics: RowStatistics


class ShardStore:
    """Shards by number. ``manifest.json`` says what the run is, and how many shards it has once all are finished."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def begin(self, manifest: Mapping[str, Any]) -> None:
        """Make the folder, and say what the run is. Raises ``OSError``."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._write_manifest(manifest)

    def end(self, manifest: Mapping[str, Any], shards: int) -> list[Path]:
        """Say that the run is finished; its shards in order. Raises ``OSError``."""
        self._write_manifest({**manifest, "shards": shards})
        return self.shards

    @property
    def shards(self) -> list[Path]:
        """All shards in order, once the run is finished."""
        manifest = json.loads((self.folder / "manifest.json").read_text("utf-8"))
        return [self._shard(index) for index in range(manifest["shards"])]

    def entry(self, index: int) -> ShardEntry | None:
        """What is noted of a finished shard; None where there is none."""
        note = self._note(index)
        if not (note.is_file() and self._shard(index).is_file()):
            return None
        data = json.loads(note.read_text("utf-8"))
        return ShardEntry(data["digest"], RowStatistics.from_dict(data["statistics"]))

    def lines(self, index: int) -> list[str]:
        """The rows of a finished shard as JSON, one for each row that went in."""
        # Not splitlines(): texts hold line ends of other kinds.
        return self._shard(index).read_text("utf-8").split("\n")[:-1]

    def finish(self, index: int, entry: ShardEntry, rows: Sequence[Mapping[str, Any]]) -> None:
        """Keep a shard. Killed in between, it is as if it had never been: the note is the last to come."""
        self._note(index).unlink(missing_ok=True)
        write_rows(self._shard(index), rows)
        note = {"digest": entry.digest, "statistics": entry.statistics.to_dict()}
        write_whole(self._note(index), json.dumps(note, ensure_ascii=False))

    def _shard(self, index: int) -> Path:
        return self.folder / f"{index:06d}.jsonl"

    def _note(self, index: int) -> Path:
        return self._shard(index).with_suffix(".json")

    def _write_manifest(self, manifest: Mapping[str, Any]) -> None:
        write_whole(self.folder / "manifest.json", json.dumps(manifest, ensure_ascii=False, indent=1) + "\n")


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write result rows as JSONL, whole or not at all. Raises ``OSError``."""
    write_whole(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def input_digest(rows: Sequence[Document | BadRow]) -> str:
    """Changes with the ids, texts and metadata of the rows, and with why they cannot be read (16 hex digits)."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(repr(row).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()[:16]
