"""Datasets: a corpus in immutable partitions, and its statistics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Any

from langchain_falconer.corpus.documents import Document
from langchain_falconer.corpus.passages import split_passages
from langchain_falconer.corpus.reservoir import sample_uniform
from langchain_falconer.corpus.streaming import Corpus, open_corpus_files
from langchain_falconer.corpus.workspace import StoredCorpus, stored_settings
from langchain_falconer.files import digest
from langchain_falconer.settings import CorpusSettings
from langchain_falconer.urls import Place, as_place

_WHOLE_CHARS = 8_000


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
    def of_stored(cls, corpus: StoredCorpus) -> Dataset:
        """Create a dataset from a corpus of the workspace."""
        partitions = tuple(Partition((part.path,), part.digest) for part in corpus.parts)
        return cls(corpus.name, partitions, stored_settings())

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], settings: CorpusSettings) -> Dataset:
        """Read a dataset from the JSON data of :meth:`to_dict`."""
        partitions = (Partition(tuple(map(as_place, part["paths"])), part["digest"]) for part in data["partitions"])
        return cls(data["name"], tuple(partitions), settings)

    def to_dict(self) -> dict[str, Any]:
        """Return name and partitions as JSON data."""
        partitions = [{"paths": [str(path) for path in part.paths], "digest": part.digest} for part in self.partitions]
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
        paths = self.paths if partition is None else list(self.partitions[partition].paths)
        return open_corpus_files(paths, self.settings)


@dataclass
class _Counts:
    documents: int = 0
    passages: int = 0
    chars: int = 0
    longest: int = 0


@dataclass(frozen=True)
class CorpusStats:
    """Statistics of a dataset from one pass: its size, and a uniform sample of its passages.

    Attributes:
        dataset: The dataset.
        passage_chars: Longer texts are split into passages of at most this many characters.
        seed: Seed of the sample.
        size: Size of the sample.
    """

    dataset: Dataset
    passage_chars: int
    seed: int
    size: int

    @cached_property
    def _scan(self) -> tuple[list[str], _Counts]:
        counts = _Counts()

        def passages() -> Iterator[str]:
            for document in chain.from_iterable(self.dataset.open(i) for i in range(len(self.dataset.partitions))):
                counts.documents += 1
                if not isinstance(document, Document):
                    continue
                offsets = split_passages(document.text, self.passage_chars)
                counts.longest = max(counts.longest, len(document.text))
                for start, end in offsets:
                    counts.passages += 1
                    counts.chars += end - start
                    yield document.text[start:end]

        return sample_uniform(passages(), self.size, self.seed, key=str), counts

    @property
    def sample(self) -> list[str]:
        """At most ``size`` distinct passages; training evaluates on the same ones, so they are annotated once."""
        return self._scan[0]

    @property
    def documents(self) -> int:
        """Number of rows, unreadable ones included."""
        return self._scan[1].documents

    @property
    def passages(self) -> int:
        """Number of passages, each a text for the LLM."""
        return self._scan[1].passages

    @property
    def chars(self) -> float:
        """Mean length of a passage in characters."""
        return self._scan[1].chars / max(1, self.passages)

    @property
    def is_short(self) -> bool:
        """Whether the LLM can read each document whole (at most 8,000 characters)."""
        return self._scan[1].longest <= _WHOLE_CHARS
