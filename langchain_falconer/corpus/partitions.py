"""Datasets: a corpus in immutable partitions, and its statistics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from typing_extensions import TypedDict

from langchain_falconer.corpus.passages import Passages
from langchain_falconer.corpus.reservoir import sample_uniform
from langchain_falconer.corpus.streaming import Corpus, open_corpus_files
from langchain_falconer.files import digest
from langchain_falconer.settings import CorpusSettings
from langchain_falconer.urls import Place, as_place

_WHOLE_CHARS = 8_000


class PartitionData(TypedDict):
    """A partition as JSON data."""

    paths: list[str]
    digest: str


class DatasetData(TypedDict):
    """A dataset as JSON data."""

    name: str
    partitions: list[PartitionData]


@dataclass(frozen=True)
class Partition:
    """Immutable documents, whose rows are computed once.

    Attributes:
        paths: Files or URLs.
        digest: Hash of the documents.
    """

    paths: tuple[Place, ...]
    digest: str


@dataclass(frozen=True)
class Dataset:
    """A corpus in partitions.

    Attributes:
        name: Name of a stored corpus, or of the first file.
        partitions: The partitions, in order.
        settings: How the files are read.
    """

    name: str
    partitions: tuple[Partition, ...]
    settings: CorpusSettings

    @classmethod
    def of_files(cls, paths: Sequence[Place | str], settings: CorpusSettings) -> Dataset:
        """Create a dataset with one partition from files. Raises ``CorpusError`` if they cannot be read."""
        places = tuple(as_place(path) for path in paths)
        partition = Partition(places, open_corpus_files(places, settings).fingerprint)
        return cls(places[0].name, (partition,), settings)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], settings: CorpusSettings) -> Dataset:
        """Read a dataset from the JSON data of :meth:`to_dict`."""
        partitions = (Partition(tuple(map(as_place, part["paths"])), part["digest"]) for part in data["partitions"])
        return cls(data["name"], tuple(partitions), settings)

    def to_dict(self) -> DatasetData:
        """Return name and partitions as JSON data."""
        partitions: list[PartitionData] = [
            {"paths": [str(path) for path in part.paths], "digest": part.digest} for part in self.partitions
        ]
        return {"name": self.name, "partitions": partitions}

    @property
    def fingerprint(self) -> str:
        """A digest that changes with the documents (16 hexadecimal digits)."""
        return digest([part.digest for part in self.partitions])

    @property
    def paths(self) -> list[Place]:
        """All files."""
        return [path for part in self.partitions for path in part.paths]

    def open(self, partition: int | None = None) -> Corpus:
        """Open the documents of one partition, or all."""
        paths = self.paths if partition is None else self.partitions[partition].paths
        return open_corpus_files(paths, self.settings)


@dataclass(frozen=True)
class CorpusStats:
    """Statistics of a dataset from one pass.

    Attributes:
        sample: Distinct passages, drawn uniformly.
        documents: Number of rows, unreadable ones included.
        passages: Number of passages, each a text for the LLM.
        chars: Mean length of a passage in characters.
        is_short: Whether the LLM can read each document whole (at most 8,000 characters).
    """

    sample: list[str]
    documents: int
    passages: int
    chars: float
    is_short: bool

    @classmethod
    def of(cls, dataset: Dataset, passage_chars: int, seed: int, size: int) -> CorpusStats:
        """Read a dataset once; longer texts are split at ``passage_chars``, and at most ``size`` passages drawn."""
        rows = chain.from_iterable(map(dataset.open, range(len(dataset.partitions))))
        passages = Passages(rows, passage_chars)
        sample = sample_uniform(passages, size, seed, key=str)
        mean_chars = passages.chars / max(1, passages.passages)
        return cls(sample, passages.documents, passages.passages, mean_chars, passages.longest <= _WHOLE_CHARS)
