"""Counts over result rows, small whatever the corpus: what the summary and the report show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

_MAX_VALUES = 100_000
_BINS = 20


@dataclass
class Tally:
    """Rows, matches, failures, uncertain ones; per step label counts, span counts, top span texts and score histograms.

    Top span texts are exact up to 100,000 distinct ones a step; beyond that the rarest are forgotten.
    """

    total: int = 0
    matched: int = 0
    failed: int = 0
    uncertain: int = 0
    labels: dict[str, Counter[str]] = field(default_factory=dict)
    span_texts: dict[str, Counter[str]] = field(default_factory=dict)
    texts_with: Counter[str] = field(default_factory=Counter)
    scores: dict[str, list[int]] = field(default_factory=dict)

    @classmethod
    def of(cls, rows: Iterable[dict[str, Any]]) -> Tally:
        """The counts over some rows."""
        tally = cls()
        for row in rows:
            tally.add(row)
        return tally

    def add(self, row: dict[str, Any]) -> None:
        """Count one result row."""
        self.total += 1
        if "error" in row:
            self.failed += 1
            return
        self.matched += row["match"]
        self.uncertain += row.get("uncertain", False)
        for step, spans in row["spans"].items():
            self.texts_with[step] += bool(spans)
        self._add_answers(row)

    def _add_answers(self, answers: dict[str, Any]) -> None:
        for step, label in answers.get("labels", {}).items():
            value = label["value"]
            for name in value if isinstance(value, list) else [value]:
                text = str(name).lower() if isinstance(name, bool) else name
                self.labels.setdefault(step, Counter())[text] += 1
            self._add_score(step, label["score"])
        for step, spans in answers.get("spans", {}).items():
            counts = self.span_texts.setdefault(step, Counter())
            for span in spans:
                counts[span["text"]] += 1
                self._add_score(step, span["score"])
                self._add_answers(span)

    def _add_score(self, step: str, score: float) -> None:
        self.scores.setdefault(step, [0] * _BINS)[min(_BINS - 1, int(score * _BINS))] += 1

    def __iadd__(self, other: Tally) -> Tally:
        self.total += other.total
        self.matched += other.matched
        self.failed += other.failed
        self.uncertain += other.uncertain
        self.texts_with += other.texts_with
        for mine, theirs in ((self.labels, other.labels), (self.span_texts, other.span_texts)):
            for step, counts in theirs.items():
                mine.setdefault(step, Counter()).update(counts)
                if len(mine[step]) > _MAX_VALUES:
                    mine[step] = Counter(dict(mine[step].most_common(_MAX_VALUES // 2)))
        for step, bins in other.scores.items():
            self.scores[step] = [a + b for a, b in zip(self.scores.get(step, [0] * _BINS), bins, strict=True)]
        return self

    def to_dict(self) -> dict[str, Any]:
        """The tally as JSON data."""
        return dict(vars(self))

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Tally:
        """The tally that :meth:`to_dict` gave, come back from JSON."""
        counted = {
            name: {step: Counter(counts) for step, counts in data[name].items()} for name in ("labels", "span_texts")
        }
        return cls(**{**data, **counted, "texts_with": Counter(data["texts_with"])})

    def summary(self, top: int = 20) -> dict[str, Any]:
        """The ``rows`` part of a run's summary."""
        spans = {
            step: {
                "texts": self.texts_with[step],
                "spans": counts.total(),
                "top": [list(pair) for pair in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))[:top]],
            }
            for step, counts in self.span_texts.items()
        }
        labels = {step: dict(counts.most_common()) for step, counts in self.labels.items()}
        return {
            "total": self.total,
            "matched": self.matched,
            "failed": self.failed,
            "uncertain": self.uncertain,
            "labels": labels,
            "spans": spans,
            "scores": self.scores,
        }
