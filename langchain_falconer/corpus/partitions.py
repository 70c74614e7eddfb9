"""Datasets: a corpus in partitions that never change, and its sizes."""

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
    """Documents that never change, so that their rows are computed once.

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
        """Make a dataset of files as one partition. Raises ``CorpusError`` if they cannot be read."""
        places = tuple(as_place(path) for path in paths)
        partition = Partition(places, open_corpus_files(places, settings).fingerprint)
        return cls(places[0].name, (partition,), settings)

    @classmethod
    def of_stored(cls, corpus: StoredCorpus) -> Dataset:
        """Make a dataset of a corpus of the workspace."""
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


@dataclass(frozen=True)
class CorpusStats:
    """One pass over a dataset: its sizes, and texts drawn uniformly from all of it.

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
    def _passed(self) -> tuple[list[str], list[int]]:
        sizes = [0, 0, 0, 0]  # documents, passages, characters, characters of the longest document

        def passages() -> Iterator[str]:
            for document in chain.from_iterable(self.dataset.open(i) for i in range(len(self.dataset.partitions))):
                sizes[0] += 1
                if not isinstance(document, Document):
                    continue
                cut = split_passages(document.text, self.passage_chars)
                sizes[3] = max(sizes[3], len(document.text))
                for start, end in cut:
                    sizes[1] += 1
                    sizes[2] += end - start
                    yield document.text[start:end]

        return sample_uniform(passages(), self.size, self.seed, key=str), sizes

    @property
    def sample(self) -> list[str]:
        """At most ``size`` different passages: those that training would measure on, too, so they are paid once."""
        return self._passed[0]

    @property
    def documents(self) -> int:
        """Rows, unreadable ones included."""
        return self._passed[1][0]

    @property
    def passages(self) -> int:
        """What the LLM would be asked about."""
        return self._passed[1][1]

    @property
    def chars(self) -> float:
        """Mean characters of a passage."""
        return self._passed[1][2] / max(1, self.passages)

    @property
    def is_short(self) -> bool:
        """Whether the LLM can read each document whole."""
        return self._passed[1][3] <= _WHOLE_CHARS
