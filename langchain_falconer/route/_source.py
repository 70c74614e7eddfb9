"""What is asked about: a stored corpus, part by part, or files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain

from langchain_falconer.corpus import (
    Corpus,
    CorpusSettings,
    Document,
    Place,
    StoredCorpus,
    open_corpus_files,
    sample_uniform,
    split_passages,
    stored_settings,
)
from langchain_falconer.graph import digest

_WHOLE_CHARS = 8_000


@dataclass(frozen=True)
class Source:
    """Documents in parts; a part never changes, so its rows are computed once.

    Attributes:
        name: what it is called.
        parts: the files of each part, and a hash of its documents.
        settings: how the files are read.
    """

    name: str
    parts: tuple[tuple[tuple[Place, ...], str], ...]
    settings: CorpusSettings

    @classmethod
    def of_files(cls, name: str, paths: Sequence[Place], settings: CorpusSettings) -> Source:
        """Files as one part. Raises ``CorpusError`` if they cannot be read."""
        return cls(name, ((tuple(paths), open_corpus_files(paths, settings).fingerprint),), settings)

    @classmethod
    def of_stored(cls, corpus: StoredCorpus) -> Source:
        """A corpus of the workspace."""
        return cls(corpus.name, tuple(((part.path,), part.digest) for part in corpus.parts), stored_settings())

    @property
    def fingerprint(self) -> str:
        """16 hex digits that change with the documents."""
        return digest([known for _, known in self.parts])

    @property
    def paths(self) -> list[Place]:
        """All files."""
        return [path for paths, _ in self.parts for path in paths]

    def open(self, part: int | None = None) -> Corpus:
        """The documents of one part, or all."""
        paths = self.paths if part is None else list(self.parts[part][0])
        return open_corpus_files(paths, self.settings)


@dataclass(frozen=True)
class Survey:
    """One pass over a source: how much there is to ask about, and texts drawn uniformly from all of it."""

    source: Source
    passage_chars: int
    seed: int
    most: int

    @cached_property
    def _passed(self) -> tuple[list[str], list[int]]:
        sizes = [0, 0, 0, 0]  # documents, passages, characters, characters of the longest document

        def passages() -> Iterator[str]:
            for document in chain.from_iterable(self.source.open(i) for i in range(len(self.source.parts))):
                sizes[0] += 1
                if not isinstance(document, Document):
                    continue
                cut = split_passages(document.text, self.passage_chars)
                sizes[3] = max(sizes[3], len(document.text))
                for start, end in cut:
                    sizes[1] += 1
                    sizes[2] += end - start
                    yield document.text[start:end]

        return sample_uniform(passages(), self.most, self.seed, key=str), sizes

    @property
    def sample(self) -> list[str]:
        """At most ``most`` different passages: those that training would measure on, too, so they are paid once."""
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
