"""The shard store of a run: a folder of finished shards, each written atomically, with the digest of its input."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from langchain_falconer.corpus import BadRow, Document
from langchain_falconer.execute.statistics import RowStatistics
from langchain_falconer.files import write_json, write_whole


class InputDigest(NamedTuple):
    """Digests of input rows (16 hex digits each): answers depend on the texts alone, result rows on everything."""

    texts: str
    rows: str


@dataclass(frozen=True)
class ShardEntry:
    """The metadata of a finished shard.

    Attributes:
        digest: Digests of its input rows.
        statistics: Counts over its result rows.
    """

    digest: InputDigest
    statistics: RowStatistics


class ShardStore:
    """Shards by number; ``manifest.json`` describes the run, with the number of shards once all are finished."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def begin(self, manifest: Mapping[str, Any]) -> None:
        """Create the folder and write the manifest. Raises ``OSError``."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._write_manifest(manifest)

    def end(self, manifest: Mapping[str, Any], shards: int) -> list[Path]:
        """Mark the run as finished and return its shards in order. Raises ``OSError``."""
        self._write_manifest({**manifest, "shards": shards})
        return self.shards

    @property
    def shards(self) -> list[Path]:
        """All shards in order, once the run is finished."""
        manifest = json.loads((self.folder / "manifest.json").read_text("utf-8"))
        return [self._shard(index) for index in range(manifest["shards"])]

    def entry(self, index: int) -> ShardEntry | None:
        """Return the metadata of a shard; None if it is not finished."""
        entry = self._entry(index)
        if not (entry.is_file() and self._shard(index).is_file()):
            return None
        data = json.loads(entry.read_text("utf-8"))
        return ShardEntry(InputDigest(*data["digest"]), RowStatistics.from_dict(data["statistics"]))

    def lines(self, index: int) -> list[str]:
        """Return the result rows of a finished shard as JSON, one per input row."""
        # Not splitlines(): texts hold line ends of other kinds.
        return self._shard(index).read_text("utf-8").split("\n")[:-1]

    def finish(self, index: int, entry: ShardEntry, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write a shard. The entry is written last: a shard without one does not count. Raises ``OSError``."""
        self._entry(index).unlink(missing_ok=True)
        write_rows(self._shard(index), rows)
        data = {"digest": entry.digest, "statistics": entry.statistics.to_dict()}
        write_whole(self._entry(index), json.dumps(data, ensure_ascii=False))

    def _shard(self, index: int) -> Path:
        return self.folder / f"{index:06d}.jsonl"

    def _entry(self, index: int) -> Path:
        return self._shard(index).with_suffix(".json")

    def _write_manifest(self, manifest: Mapping[str, Any]) -> None:
        write_json(self.folder / "manifest.json", manifest)


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write result rows as JSONL, whole or not at all. Raises ``OSError``."""
    write_whole(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def input_digest(rows: Sequence[Document | BadRow]) -> InputDigest:
    """Return the digests of rows: of their texts; and of ids and metadata too, and of why rows cannot be read."""
    texts, everything = hashlib.sha256(), hashlib.sha256()
    for row in rows:
        text = row.text if isinstance(row, Document) else None
        texts.update(repr(text).encode("utf-8", "surrogatepass"))
        # Not files.digest: metadata of any type must count with its type.
        everything.update(repr(row).encode("utf-8", "surrogatepass"))
    return InputDigest(texts.hexdigest()[:16], everything.hexdigest()[:16])
