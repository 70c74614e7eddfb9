"""Counts over result rows, in memory that does not grow with the corpus."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from langchain_falconer.records import FrozenModel

_MAX_VALUES = 100_000
_BINS = 20


class SpanCounts(FrozenModel):
    """Counts over the spans of a step.

    Attributes:
        texts: Texts with a span.
        spans: Spans.
        top: The most frequent span texts with their counts.
    """

    texts: int
    spans: int
    top: tuple[tuple[str, int], ...]


class RowCounts(FrozenModel):
    """Counts over the rows of a run.

    Attributes:
        total: Rows.
        matched: Rows that match.
        failed: Rows with an error.
        empty: Those of them that merely have no text.
        uncertain: Rows that are marked uncertain.
        labels: Answers by step and label.
        spans: Spans by step.
        scores: Histogram of the scores by step: 20 bins over [0, 1].
    """

    total: int
    matched: int
    failed: int
    empty: int = 0
    uncertain: int = 0
    labels: dict[str, dict[str, int]] = {}
    spans: dict[str, SpanCounts] = {}
    scores: dict[str, tuple[int, ...]] = {}


@dataclass
class RowStatistics:
    """Running counts over result rows; see :class:`RowCounts`.

    Counts of span texts are exact up to 100,000 distinct ones per step; beyond that the rarest are dropped.
    """

    total: int = 0
    matched: int = 0
    failed: int = 0
    empty: int = 0
    uncertain: int = 0
    labels: dict[str, Counter[str]] = field(default_factory=dict)
    span_texts: dict[str, Counter[str]] = field(default_factory=dict)
    texts_with: Counter[str] = field(default_factory=Counter)
    scores: dict[str, list[int]] = field(default_factory=dict)

    @classmethod
    def of(cls, rows: Iterable[Mapping[str, Any]]) -> RowStatistics:
        """Return the counts over some rows."""
        statistics = cls()
        for row in rows:
            statistics.add(row)
        return statistics

    def add(self, row: Mapping[str, Any]) -> None:
        """Count one result row."""
        self.total += 1
        if "error" in row:
            self.failed += 1
            self.empty += row.get("text") == ""
            return
        self.matched += row["match"]
        self.uncertain += row.get("uncertain", False)
        for step, spans in row["spans"].items():
            self.texts_with[step] += bool(spans)
        self._add_answers(row)

    def _add_answers(self, answers: Mapping[str, Any]) -> None:
        for step, label in answers.get("labels", {}).items():
            counts = self.labels.setdefault(step, Counter())
            counts.update(label_names(label["value"]))
            self._add_score(step, label["score"])
        for step, spans in answers.get("spans", {}).items():
            counts = self.span_texts.setdefault(step, Counter())
            for span in spans:
                counts[span["text"]] += 1
                self._add_score(step, span["score"])
                self._add_answers(span)

    def _add_score(self, step: str, score: float) -> None:
        self.scores.setdefault(step, [0] * _BINS)[min(_BINS - 1, int(score * _BINS))] += 1

    def __iadd__(self, other: RowStatistics) -> RowStatistics:
        self.total += other.total
        self.matched += other.matched
        self.failed += other.failed
        self.empty += other.empty
        self.uncertain += other.uncertain
        self.texts_with += other.texts_with
        for totals, additions in ((self.labels, other.labels), (self.span_texts, other.span_texts)):
            for step, counts in additions.items():
                totals.setdefault(step, Counter()).update(counts)
                if len(totals[step]) > _MAX_VALUES:
                    totals[step] = Counter(dict(totals[step].most_common(_MAX_VALUES // 2)))
        for step, bins in other.scores.items():
            self.scores[step] = [a + b for a, b in zip(self.scores.get(step, [0] * _BINS), bins, strict=True)]
        return self

    def to_dict(self) -> dict[str, Any]:
        """Return the counts as JSON data."""
        return dict(vars(self))

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> RowStatistics:
        """Read the result of :meth:`to_dict` after a round trip through JSON."""
        counters = {
            name: {step: Counter(counts) for step, counts in data[name].items()} for name in ("labels", "span_texts")
        }
        return cls(**{**data, **counters, "texts_with": Counter(data["texts_with"])})

    def counts(self, top: int = 20) -> RowCounts:
        """Return the counts with the most frequent span texts of each step."""
        spans = {
            step: SpanCounts(texts=self.texts_with[step], spans=counts.total(), top=tuple(most_frequent(counts, top)))
            for step, counts in self.span_texts.items()
        }
        return RowCounts(
            total=self.total,
            matched=self.matched,
            failed=self.failed,
            empty=self.empty,
            uncertain=self.uncertain,
            labels={step: dict(counts.most_common()) for step, counts in self.labels.items()},
            spans=spans,
            scores={step: tuple(bins) for step, bins in self.scores.items()},
        )


def label_names(value: bool | str | list[str]) -> list[str]:
    """Return the labels of a value in a result row, truth values as ``true`` and ``false``."""
    values = value if isinstance(value, list) else [value]
    return [str(one).lower() if isinstance(one, bool) else one for one in values]


def most_frequent(counts: Counter[str], n: int) -> list[tuple[str, int]]:
    """Return the ``n`` most frequent values with their counts, ties in alphabetical order."""
    return sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))[:n]
