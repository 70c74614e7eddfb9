"""Samples of a corpus: texts to annotate, split into training, development and test texts."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np

from langchain_falconer.annotate.sampling import choose, most_uncertain
from langchain_falconer.corpus import BadRow, Corpus, Passages, sample_uniform, split_passages
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
        documents: Number of rows of the corpus, unreadable ones included.
        bad_rows: Number of unreadable rows.
        passages: Number of passages of the corpus.
        train: Training texts.
        development: Texts, uniform over the corpus, for all choices: initial weights, early stopping, calibration,
            thresholds, backend.
        test: Texts, uniform over the corpus, for the measurement of quality only.
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
        """The texts that are never trained on, test texts first."""
        return [*self.test, *self.development]

    def counts(self) -> dict[str, int]:
        """Return the size of each part."""
        sizes = {name: len(getattr(self, name)) for name in ("train", "development", "test", "pool")}
        return {"documents": self.documents, "bad_rows": self.bad_rows, "passages": self.passages, **sizes}


def sample_for_llm(
    passages: Passages, plan: Plan, settings: MineSettings, embed: Callable[[Sequence[str]], np.ndarray]
) -> Sample:
    """Sample texts for an LLM to annotate.

    Held-out texts are uniform over the corpus; training texts are uniform, diverse, and near to the instructions by
    ``embed`` (unit vectors of shape (texts, dimensions)).

    Raises:
        CorpusError: The corpus has fewer than two different texts.
    """
    n_held_out = round(settings.annotations * settings.held_out)
    n_train = settings.annotations - n_held_out
    pool = sample_uniform(passages, n_held_out + _POOL_FACTOR * n_train, settings.seed, key=str)
    if len(pool) < 2:
        raise CorpusError("the corpus has fewer than two different texts; there is nothing to sample from")
    # A corpus smaller than the sample is split in the same proportion.
    n_held_out = min(n_held_out, max(1, round(len(pool) * settings.held_out)))
    held_out, rest = pool[:n_held_out], pool[n_held_out:]
    if len(rest) <= n_train:
        return _sample(passages, rest, held_out, [])
    instructions = embed([step.instruction for step in plan.top_level])
    chosen = set(choose(rest, n_train, settings.seed, vectors=embed(rest), instructions=instructions))
    train, others = _partition(rest, chosen)
    return _sample(passages, train, held_out, others)


def sample_certification_rows(corpus: Corpus, n: int, seed: int) -> dict[int, str]:
    """Sample ``n`` rows for certificates, uniformly over the readable rows of the corpus.

    The draw is independent of the training sample, so that the two may share texts; and it is by row, so that a text
    of many rows counts as often.

    Returns:
        Texts by index of their row.
    """
    rows = ((index, row.text) for index, row in enumerate(corpus) if not isinstance(row, BadRow))
    return dict(sample_uniform(rows, n, seed, key=lambda row: f"row {row[0]}"))


def sample_recorded(
    passages: Passages, is_recorded: Callable[[list[str]], list[bool]], settings: MineSettings
) -> Sample:
    """Split the distinct passages with recorded annotations (asked for by batch); draw a pool from the others."""
    recorded: dict[str, None] = {}
    pool = sample_uniform(_unrecorded(passages, is_recorded, recorded), settings.unlabelled, settings.seed, key=str)
    return _split(list(recorded), pool, passages, settings)


def _unrecorded(
    passages: Iterable[str], is_recorded: Callable[[list[str]], list[bool]], recorded: dict[str, None]
) -> Iterator[str]:
    """Yield the texts without recorded annotations; add the others to ``recorded``."""
    iterator = iter(passages)
    while batch := list(islice(iterator, _BATCH)):
        for text, has_record in zip(batch, is_recorded(batch), strict=True):
            if has_record:
                recorded[text] = None
            else:
                yield text


def sample_annotated(texts: Sequence[str], passages: Passages, settings: MineSettings) -> Sample:
    """Split texts that people annotated; draw a pool from the other passages of the corpus.

    The whole corpus is read, so that every bad row is known before any work begins.
    """
    annotated = {text[a:b] for text in texts for a, b in split_passages(text, settings.passage_chars)}
    others = (passage for passage in passages if passage not in annotated)
    return _split(texts, sample_uniform(others, settings.unlabelled, settings.seed, key=str), passages, settings)


def _split(texts: Sequence[str], pool: list[str], passages: Passages, settings: MineSettings) -> Sample:
    """Split annotated texts into training and held-out texts, independently of their order."""
    if len(texts) < 2:
        raise AnnotationError(
            f"there are {len(texts)} annotated texts; at least two are needed, one of them to measure quality"
        )
    shuffled = sample_uniform(texts, len(texts), settings.seed, key=str)
    n_held_out = min(len(shuffled) - 1, max(1, round(len(shuffled) * settings.held_out)))
    return _sample(passages, shuffled[n_held_out:], shuffled[:n_held_out], pool)


def _sample(passages: Passages, train: list[str], held_out: list[str], pool: list[str]) -> Sample:
    """Return the sample, half of its held-out texts for development; a single one is a test text."""
    half = len(held_out) // 2
    sizes = (passages.documents, passages.bad_rows, passages.passages)
    return Sample(*sizes, train, held_out[:half], held_out[half:], pool)


def _partition(texts: Sequence[str], chosen: Container[int]) -> tuple[list[str], list[str]]:
    """Return the texts at the chosen indices, and the others."""
    numbered = list(enumerate(texts))
    return [text for i, text in numbered if i in chosen], [text for i, text in numbered if i not in chosen]


def next_round(sample: Sample, confidence: Sequence[float], n: int) -> Sample:
    """Move the ``n`` texts of the pool with the lowest confidence to the training texts."""
    added, pool = _partition(sample.pool, set(most_uncertain(confidence, n)))
    return replace(sample, train=[*sample.train, *added], pool=pool)
