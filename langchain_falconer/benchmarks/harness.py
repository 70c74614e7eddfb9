"""The common harness of the benchmarks of proxies: datasets, their questions, rows as annotations, scores."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from langchain_falconer.annotate import HUMAN, Annotation
from langchain_falconer.benchmarks.human_labels import AnnotationRow, HumanRow, annotation_of, meta_of, plan_of, rows_of
from langchain_falconer.evaluate import Proportion, label_scores, span_scores
from langchain_falconer.model import Proxy
from langchain_falconer.plan import LabelStep, Plan
from langchain_falconer.records import Answers, Label, Span
from langchain_falconer.settings import DEFAULT_BASE, TrainSettings
from langchain_falconer.train import UNLABELLED, Previous, train_proxy

TEST_ROWS = 1_000


@dataclass(frozen=True)
class Set:
    """A data set and its task: one label task, or (``None``) its spans. Rows of other ``classes`` are out."""

    name: str
    label: str | None
    classes: tuple[str, ...] | None = None

    @property
    def title(self) -> str:
        """The name in tables."""
        return f"{self.name} {self.label or 'spans'}" + (f" ({len(self.classes)} classes)" if self.classes else "")


SETS = (
    Set("crossner_politics", None),
    Set("mit_movie_trivia", None),
    Set("semeval14_laptops", None),
    Set("semeval14_restaurants", None),
    Set("ag_news", "topic"),
    Set("snips", "intent"),
    Set("tweet_emotion", "emotion"),
    Set("sst", "sentiment", ("positive", "negative")),
    Set("sst", "sentiment"),
    Set("cr", "sentiment"),
)
FEW = tuple(s for s in SETS if not s.classes and s.name != "cr")
"""Eight sets that pretraining never saw."""


def _ignore(name: str, seed: int, **scores: float) -> None:
    """Ignore a score."""


@dataclass(frozen=True)
class Trial:
    """Settings of a measurement: on the datasets in ``data`` (all, or ``sets``), from ``base``.

    ``rows`` human labels are drawn by each of ``seeds`` seeds; ``on_score(set, seed, **scores)`` receives each score.
    """

    data: Path
    base: str = DEFAULT_BASE
    rows: int = 100
    seeds: int = 5
    sets: tuple[str, ...] = ()
    on_score: Callable[..., None] = _ignore

    def of(self, sets: Sequence[Set]) -> list[Set]:
        """Return those of the sets that were selected."""
        return [s for s in sets if not self.sets or s.name in self.sets]


def question(data: Path, task: Set) -> Plan:
    """The plan that asks a set its question.

    Raises:
        CorpusError: the data is not there.
    """
    meta = meta_of(data, task.name)
    if task.label and task.classes:
        classes = meta["instructions"]["labels"][task.label]["classes"]
        meta["instructions"]["labels"][task.label]["classes"] = {k: classes[k] for k in task.classes}
    return plan_of(meta, task.label)


def scored_rows(data: Path, task: Set) -> list[Annotation]:
    """At most 1,000 test rows, the same ones each time."""
    rows = rows_in(data, task, "test")
    random.Random(0).shuffle(rows)
    return annotated(rows[:TEST_ROWS], question(data, task), task.label)


def rows_in(data: Path, task: Set, part: str) -> list[HumanRow]:
    """The rows of ``train`` or ``test``, those of other classes left out."""
    rows = rows_of(data, task.name, part)
    return [r for r in rows if not (task.label and task.classes) or r["labels"][task.label] in task.classes]


@dataclass(frozen=True)
class Draw:
    """A set's question, what a seed drew of its train rows (annotated ones, and texts of others), and its test rows."""

    title: str
    seed: int
    plan: Plan
    annotations: list[Annotation]
    unlabelled: list[str]
    test: list[Annotation]

    def trained(self, base: str | Previous, **more: Any) -> Proxy:
        """Return a proxy trained on both; ``options`` are passed to :func:`train_proxy`."""
        options = {"base": base, "unlabelled": self.unlabelled, "settings": TrainSettings(seed=self.seed), **more}
        return train_proxy(self.plan, self.annotations, **options)


def draws(trial: Trial, sets: Sequence[Set]) -> Iterator[Draw]:
    """Yield the rows that each seed draws of each set.

    ``trial.rows`` of them are to be annotated; at most 1,000 others are not.

    Raises:
        CorpusError: the data is not there.
    """
    for task in trial.of(sets):
        plan, test, train = (
            question(trial.data, task),
            scored_rows(trial.data, task),
            rows_in(trial.data, task, "train"),
        )
        for seed in range(trial.seeds):
            others = max(0, min(UNLABELLED, len(train) - trial.rows))
            rows = random.Random(seed).sample(train, trial.rows + others)
            texts = [row["text"] for row in rows[trial.rows :]]
            yield Draw(task.title, seed, plan, annotated(rows[: trial.rows], plan, task.label), texts, test)


def split(annotations: list[Annotation]) -> tuple[list[Annotation], list[Annotation]]:
    """Split annotations into four fifths to train on and one fifth held out."""
    held_out = len(annotations) // 5
    return annotations[held_out:], annotations[:held_out]


def annotated(rows: Sequence[HumanRow], plan: Plan, label: str | None) -> list[Annotation]:
    """Rows as annotations of a plan."""
    return [_annotation(annotation_of(row, plan, label)) for row in rows]


def _annotation(row: AnnotationRow) -> Annotation:
    text = row["text"]
    labels = {k: Label(tuple(v) if isinstance(v, list) else v) for k, v in row.get("labels", {}).items()}
    spans = {k: tuple(Span.at(text, a, b) for a, b in sorted(pairs)) for k, pairs in row.get("spans", {}).items()}
    return Annotation(text, Answers(labels, spans), HUMAN)


def score_of(proxy: Proxy, plan: Plan, test: Sequence[Annotation]) -> Proportion:
    """F1 of exact spans, or accuracy."""
    answers = proxy.answers([a.text for a in test], apply_conditions=False)
    step = plan.steps[0]
    if isinstance(step, LabelStep):
        gold = [a.answers.labels[step.id].value for a in test]
        return label_scores(gold, [a.labels[step.id].value for a in answers]).accuracy
    pairs = [(i, s.id) for i in range(len(test)) for s in plan.steps]
    return span_scores(
        [offsets(test[i].answers, name) for i, name in pairs],
        [offsets(answers[i], name) for i, name in pairs],
        texts=[i for i, _ in pairs],
    ).f1


def offsets(answers: Answers, step: str) -> list[tuple[int, int]]:
    """Return the offsets of a step's spans."""
    return [(s.start, s.end) for s in answers.spans.get(step, ())]
