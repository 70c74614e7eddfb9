"""Samples of a corpus: texts to annotate, split into training, development and test texts."""

from __future__ import annotations

import random
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np

from langchain_falconer.annotate.candidates import PossibleAnswer, candidates, rare_answers, retrieve
from langchain_falconer.annotate.sampling import choose
from langchain_falconer.annotate.view import Annotation
from langchain_falconer.corpus import BadRow, Corpus, PassageIndex, Passages, sample_uniform, split_passages
from langchain_falconer.errors import AnnotationError, CorpusError
from langchain_falconer.files import read_json, write_json
from langchain_falconer.records import Answers
from langchain_falconer.settings import MineSettings

_POOL_FACTOR = 5
_LATER_PARTS = 4
_PILOT_SHARE = 10
"""A pilot text takes at least this many annotations."""
_MIN_IN_PARTS = 60  # fewer training texts are drawn at once: the first of them would teach little about the others
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
        uniform: Number of training texts, the first ones, that are uniform over the corpus too.
        remaining: Number of training texts that are yet to be drawn, once the answers about the others are there.
    """

    documents: int
    bad_rows: int
    passages: int
    train: list[str]
    development: list[str]
    test: list[str]
    pool: list[str]
    uniform: int = 0
    remaining: int = 0

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
        names = ("documents", "bad_rows", "passages", "remaining")
        return {**{name: getattr(self, name) for name in names}, **sizes}


def sample_for_llm(passages: Passages, texts: Iterable[str], settings: MineSettings) -> Sample:
    """Draw the texts of a corpus that an LLM annotates whatever they say: the held-out ones, and some to learn from.

    All are uniform over the corpus. What remains to be drawn is chosen by :func:`extend`.

    Args:
        passages: Counts the passages.
        texts: The passages.
        settings: Number of annotations, share that is held out, seed.

    Raises:
        CorpusError: The corpus has fewer than two different texts.
    """
    n_held_out = round(settings.annotations * settings.held_out)
    n_train = settings.annotations - n_held_out
    pool = sample_uniform(texts, n_held_out + _POOL_FACTOR * n_train, settings.seed, key=str)
    if len(pool) < 2:
        raise CorpusError("the corpus has fewer than two different texts; there is nothing to sample from")
    # A corpus smaller than the sample is split in the same proportion.
    n_held_out = min(n_held_out, max(1, round(len(pool) * settings.held_out)))
    held_out, rest = pool[:n_held_out], pool[n_held_out:]
    is_uniform = len(rest) <= n_train or not settings.indexed
    n_uniform = min(len(rest), n_train) if is_uniform else _n_uniform(n_train, settings)
    sample = _sample(passages, rest[:n_uniform], held_out, rest[n_uniform:])
    return replace(sample, uniform=n_uniform, remaining=min(len(rest), n_train) - n_uniform)


def has_pilot(settings: MineSettings) -> bool:
    """Return whether a pilot is wanted, and takes no more than a tenth of the annotations."""
    return 0 < settings.annotate.pilot * _PILOT_SHARE <= settings.annotations


def pilot_texts(texts: Iterable[str], settings: MineSettings) -> list[str]:
    """Draw the first uniform training texts of :func:`sample_for_llm`, so that answers of a pilot teach too.

    Args:
        texts: The passages of the corpus.
        settings: Number of annotations and of pilot texts, share that is held out, seed.

    Returns:
        The texts; none where the pilot would be more than a tenth of the annotations.
    """
    n, share = settings.annotate.pilot, settings.held_out
    drawn = sample_uniform(texts, settings.annotations, settings.seed, key=str)
    n_held_out = min(round(settings.annotations * share), max(1, round(len(drawn) * share)))
    return drawn[n_held_out : n_held_out + n] if n * _PILOT_SHARE <= len(drawn) else []


def extend(
    sample: Sample,
    index: PassageIndex,
    possible: Sequence[PossibleAnswer],
    annotations: Sequence[Annotation],
    settings: MineSettings,
) -> Sample:
    """Add the next part of the training texts: candidates for rare answers, and texts unlike each other.

    The candidates of the first part are near the words of the steps; those of later parts are found by what was
    answered before. Where no answer is rare, all that remains is drawn at once.

    Args:
        sample: The sample, some of whose training texts remain to be drawn.
        index: The passages of the corpus.
        possible: The answers that the steps may give.
        annotations: Those of the training texts so far.
        settings: Number of annotations and seed.
    """
    known = {*sample.held_out, *sample.train}
    n_train = len(sample.train) + sample.remaining
    n_missing = _first_part(n_train, settings) - len(sample.train)
    if n_missing > 0:
        queries = np.stack([answer.direction for answer in possible if answer.value is not False])
        added = retrieve(index, queries, n_missing // 2, known)
        added += _diverse(sample.pool, {*added}, n_missing - len(added), index, settings)
    elif rare := rare_answers(possible, annotations, sample.uniform, n_train // 2):
        n = min(_next_part(n_train, settings), sample.remaining)
        added = candidates(index, rare, annotations, n, known)
        added += _diverse(sample.pool, {*added}, n - len(added), index, settings)
    else:
        n = sample.remaining
        added = _diverse(sample.pool, set(), n // 2, index, settings)
        added += [text for text in sample.pool if text not in {*added}][: n - len(added)]
    pool = [text for text in sample.pool if text not in {*added}]
    remaining = sample.remaining - len(added) if added else 0
    return replace(sample, train=[*sample.train, *added], pool=pool, remaining=remaining)


def _diverse(pool: Sequence[str], known: set[str], n: int, index: PassageIndex, settings: MineSettings) -> list[str]:
    """Choose texts of a pool that are unlike each other, others than the known ones."""
    others = [text for text in pool if text not in known] if n > 0 else []
    return [others[i] for i in choose(others, n, settings.seed, index.vectors_of(others))] if others else []


def _next_part(n: int, settings: MineSettings) -> int:
    """Return the size of a later part of ``n`` training texts, in whole calls; 0 where all are one part."""
    per_call = settings.annotate.texts_per_call
    if n < _MIN_IN_PARTS or settings.annotate.batch:  # a batch may take a day
        return 0
    return (n - n // 4) // _LATER_PARTS // per_call * per_call


def _n_uniform(n: int, settings: MineSettings) -> int:
    """Return the number of uniform texts in the first part of ``n`` training texts: those of a pilot at least."""
    first = _first_part(n, settings)
    return max(first // 3, min(settings.annotate.pilot, first) if has_pilot(settings) else 0)


def _first_part(n: int, settings: MineSettings) -> int:
    return n - _LATER_PARTS * _next_part(n, settings)


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


def sample_annotated(annotations: Sequence[Annotation], passages: Passages, settings: MineSettings) -> Sample:
    """Split texts that people annotated, stratified by their answers; draw a pool from the corpus' other passages.

    The whole corpus is read, so that every bad row is known before any work begins.
    """
    strata = {annotation.text: _stratum(annotation.answers) for annotation in annotations}
    annotated = {text[a:b] for text in strata for a, b in split_passages(text, settings.passage_chars)}
    others = (passage for passage in passages if passage not in annotated)
    pool = sample_uniform(others, settings.unlabelled, settings.seed, key=str)
    return _split(list(strata), pool, passages, settings, strata)


def _stratum(answers: Answers) -> str:
    """Return the labels of a text and the steps that have spans in it, as one string."""
    labels = [f"{step}={label.value}" for step, label in sorted(answers.labels.items())]
    return "; ".join([*labels, *(step for step, spans in sorted(answers.spans.items()) if spans)])


def _split(
    texts: Sequence[str],
    pool: list[str],
    passages: Passages,
    settings: MineSettings,
    strata: Mapping[str, str] | None = None,
) -> Sample:
    """Split annotated texts into training and held-out texts, independently of their order.

    Each part has its share of each stratum, up to one text: of three texts with a rare label one is held out at most.
    """
    if len(texts) < 2:
        raise AnnotationError(
            f"there are {len(texts)} annotated texts; at least two are needed, one of them to measure quality"
        )
    shuffled = sample_uniform(texts, len(texts), settings.seed, key=str)
    n_held_out = min(len(shuffled) - 1, max(1, round(len(shuffled) * settings.held_out)))
    held_out = shuffled[:n_held_out] if strata is None else _spread(shuffled, n_held_out, strata, settings.seed)
    chosen = set(held_out)
    return _sample(passages, [text for text in shuffled if text not in chosen], held_out, pool)


def _spread(texts: Sequence[str], n: int, strata: Mapping[str, str], seed: int) -> list[str]:
    """Draw ``n`` of shuffled texts, and so that the first third of these is spread over the strata too.

    Texts that are sorted by stratum are drawn at equal distances from a random start (systematic sampling): each has
    the same probability.
    """
    ordered = sorted(texts, key=strata.__getitem__)
    start = random.Random(seed).random()
    drawn = [ordered[int((i + start) * len(ordered) / n)] for i in range(n)]
    middle = set(range(1, n, 3))
    return [*drawn[1::3], *(text for i, text in enumerate(drawn) if i not in middle)]


def _sample(passages: Passages, train: list[str], held_out: list[str], pool: list[str]) -> Sample:
    """Return the sample, a third of its held-out texts for development; a single one is a test text."""
    third = round(len(held_out) / 3)
    sizes = (passages.documents, passages.bad_rows, passages.passages)
    return Sample(*sizes, train, held_out[:third], held_out[third:], pool)


def _partition(texts: Sequence[str], chosen: Container[int]) -> tuple[list[str], list[str]]:
    """Return the texts at the chosen indices, and the others."""
    numbered = list(enumerate(texts))
    return [text for i, text in numbered if i in chosen], [text for i, text in numbered if i not in chosen]
