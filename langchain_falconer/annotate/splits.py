"""Which texts are annotated, and which of those the proxy is measured on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np

from langchain_falconer.annotate.sampling import choose, most_uncertain
from langchain_falconer.corpus import BadRow, Corpus, sample_uniform, split_passages
from langchain_falconer.errors import AnnotationError, CorpusError
from langchain_falconer.files import read_json, write_json
from langchain_falconer.plan import Plan
from langchain_falconer.settings import MineSettings

_POOL_FACTOR = 5
_BATCH = 500


@dataclass(frozen=True)
class Sample:
    """The texts of a run by their use.

    Attributes:
        documents: Rows of the corpus, unreadable ones included.
        bad_rows: Unreadable rows.
        passages: Passages of the corpus.
        train: Texts to learn from.
        development: Texts, uniform over the corpus, on which choices are made: start, early stopping, calibration,
            thresholds, backend.
        test: Texts, uniform over the corpus, on which nothing but the quality is measured.
        pool: Texts without annotations: self-training uses them, later rounds annotate some of them.
    """

    documents: int
    bad_rows: int
    passages: int
    train: list[str]
    development: list[str]
    test: list[str]
    pool: list[str]

    @classmethod
    def load(cls, path: Path) -> Sample | None:
        """Read the sample at ``path``; None if there is none."""
        data = read_json(path)
        return cls(**data) if data else None

    def save(self, path: Path) -> None:
        """Write the sample to ``path``."""
        write_json(path, asdict(self))

    @property
    def held_out(self) -> list[str]:
        """The texts that training never sees, test texts first."""
        return [*self.test, *self.development]

    def counts(self) -> dict[str, int]:
        """Return the size of each part."""
        sizes = {name: len(getattr(self, name)) for name in ("train", "development", "test", "pool")}
        return {"documents": self.documents, "bad_rows": self.bad_rows, "passages": self.passages, **sizes}


class Passages:
    """The passages of a corpus, counted as they go by."""

    def __init__(self, corpus: Corpus, max_chars: int, on_document: Callable[[int], None]) -> None:
        self._corpus = corpus
        self._max_chars = max_chars
        self._on_document = on_document
        self.documents = self.bad_rows = self.passages = 0

    def __iter__(self) -> Iterator[str]:
        for row in self._corpus:
            self.documents += 1
            if self.documents % _BATCH == 0:
                self._on_document(self.documents)
            if isinstance(row, BadRow):
                self.bad_rows += 1
                continue
            for start, end in split_passages(row.text, self._max_chars):
                self.passages += 1
                yield row.text[start:end]

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Documents, bad rows and passages, once all have gone by."""
        return self.documents, self.bad_rows, self.passages


def sample_for_llm(
    passages: Passages, plan: Plan, settings: MineSettings, embed: Callable[[Sequence[str]], np.ndarray]
) -> Sample:
    """Held-out texts uniformly over the corpus; training texts uniform, diverse, and near to what is asked."""
    n_held_out = round(settings.annotations * settings.held_out)
    n_train = settings.annotations - n_held_out
    pool = sample_uniform(passages, n_held_out + _POOL_FACTOR * n_train, settings.seed, key=str)
    if len(pool) < 2:
        raise CorpusError("the corpus has fewer than two different texts; there is nothing to sample from")
    # A corpus smaller than what is asked for is shared out in the same proportion.
    n_held_out = min(n_held_out, max(1, round(len(pool) * settings.held_out)))
    held_out, rest = pool[:n_held_out], pool[n_held_out:]
    if len(rest) <= n_train:
        return Sample(*passages.sizes, rest, *_halves(held_out), [])
    instructions = embed([step.instruction for step in plan.top_level])
    chosen = set(choose(rest, n_train, settings.seed, vectors=embed(rest), instructions=instructions))
    train = [text for i, text in enumerate(rest) if i in chosen]
    return Sample(*passages.sizes, train, *_halves(held_out), [text for i, text in enumerate(rest) if i not in chosen])


def sample_certification_rows(corpus: Corpus, n: int, seed: int) -> dict[int, str]:
    """``n`` rows for certificates, uniform over the rows that can be read: their places in the corpus, and texts.

    The draw knows nothing of the sample to learn from, so each may hold texts of the other; and it goes by place, so
    that a text that stands in many rows counts as many times.
    """
    rows = ((place, row.text) for place, row in enumerate(corpus) if not isinstance(row, BadRow))
    return dict(sample_uniform(rows, n, seed, key=lambda row: f"row {row[0]}"))


def sample_of_known(passages: Passages, known: Callable[[list[str]], list[bool]], settings: MineSettings) -> Sample:
    """The different texts that a recording answers, shared out; of the others a pool."""
    found: dict[str, None] = {}
    pool = sample_uniform(_others(passages, known, found), settings.unlabelled, settings.seed, key=str)
    return _split(list(found), pool, passages, settings)


def _others(passages: Iterable[str], known: Callable[[list[str]], list[bool]], found: dict[str, None]) -> Iterator[str]:
    """The texts that are not known, while those that are go to ``found``."""
    iterator = iter(passages)
    while batch := list(islice(iterator, _BATCH)):
        for text, is_known in zip(batch, known(batch), strict=True):
            if is_known:
                found[text] = None
            else:
                yield text


def sample_of_given(texts: Sequence[str], passages: Passages, settings: MineSettings) -> Sample:
    """Texts that people annotated, shared out; of the other passages of the corpus a pool.

    The whole corpus is read, so that every bad row shows before any work is done.
    """
    given = {text[a:b] for text in texts for a, b in split_passages(text, settings.passage_chars)}
    others = (passage for passage in passages if passage not in given)
    return _split(texts, sample_uniform(others, settings.unlabelled, settings.seed, key=str), passages, settings)


def _split(texts: Sequence[str], pool: list[str], passages: Passages, settings: MineSettings) -> Sample:
    """Annotated texts as training and held-out ones, whatever their order."""
    if len(texts) < 2:
        raise AnnotationError(
            f"there are {len(texts)} annotated texts; at least two are needed, one of them to measure on"
        )
    shuffled = sample_uniform(texts, len(texts), settings.seed, key=str)
    n_held_out = min(len(shuffled) - 1, max(1, round(len(shuffled) * settings.held_out)))
    return Sample(*passages.sizes, shuffled[n_held_out:], *_halves(shuffled[:n_held_out]), pool)


def _halves(held_out: list[str]) -> tuple[list[str], list[str]]:
    """Development and test texts; a single held-out text is for the test."""
    n_development = len(held_out) // 2
    return held_out[:n_development], held_out[n_development:]


def next_round(sample: Sample, confidence: Sequence[float], n: int) -> Sample:
    """Move the ``n`` texts of the pool that the proxy is least sure of to the training texts."""
    chosen = set(most_uncertain(confidence, n))
    more = [text for i, text in enumerate(sample.pool) if i in chosen]
    left = [text for i, text in enumerate(sample.pool) if i not in chosen]
    return replace(sample, train=[*sample.train, *more], pool=left)
