"""The corrected counts of a run: in all, and by group of rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

from pydantic import Field

from langchain_falconer.evaluate import Estimate
from langchain_falconer.records import FrozenModel


class SpanEstimates(FrozenModel):
    """Counts of the spans of a step.

    Attributes:
        texts: Rows with a span; ``None`` for a step that is asked of spans.
        spans: Spans.
        top: Occurrences of the most frequent span texts.
    """

    texts: Estimate | None = None
    spans: Estimate
    top: Mapping[str, Estimate] = Field(default_factory=dict)


class CountEstimates(FrozenModel):
    """Counts over rows; ``estimate.per(rows)`` is the share of the rows, or the mean over them.

    Attributes:
        rows: Rows with answers.
        matched: Rows that match; of a group by label, rows with the label.
        labels: Rows by step and label; of a step that is asked of spans, spans.
        spans: Spans by step.
    """

    rows: int
    matched: Estimate
    labels: Mapping[str, Mapping[str, Estimate]] = Field(default_factory=dict)
    spans: Mapping[str, SpanEstimates] = Field(default_factory=dict)

    def named(self, max_labels: int = 12) -> Iterator[tuple[str, Estimate]]:
        """Yield the estimates with their names; of a step the labels that were counted most often."""
        yield "matched", self.matched
        for step, labels in self.labels.items():
            frequent = sorted(labels.items(), key=lambda pair: -pair[1].counted)[:max_labels]
            yield from ((f"{step}: {label}", estimate) for label, estimate in frequent)
        for step, spans in self.spans.items():
            if spans.texts is not None:
                yield f"{step}: texts", spans.texts
            yield f"{step}: spans", spans.spans


class DetectableDifference(FrozenModel):
    """The smallest difference between two groups that these data could show at the level of the estimates.

    Attributes:
        groups: The two largest groups.
        matched: Difference of the shares of rows that match; ``None`` where it is unknown.
        labels: Of the shares with a label, by step and label.
        spans: Of the mean numbers of spans, by step.
    """

    groups: tuple[str, str]
    matched: float | None = None
    labels: Mapping[str, Mapping[str, float | None]] = Field(default_factory=dict)
    spans: Mapping[str, float | None] = Field(default_factory=dict)


class Grouping(FrozenModel):
    """Counts by the values of a column, by month of a date, or by the label of a step.

    Attributes:
        kind: ``column`` or ``label``. Rows are grouped by a label as the proxy or the annotator gave it: such a count
            is of the rows that have both.
        groups: Counts by value, the largest group first.
        detectable: The smallest difference of two groups that could be shown; ``None`` for labels.
    """

    kind: Literal["column", "label"]
    groups: Mapping[str, CountEstimates]
    detectable: DetectableDifference | None = None


class Estimates(CountEstimates):
    """The corrected counts of a run.

    Attributes:
        against: Whose counts are estimated: the LLM's, or a person's.
        texts: Uniformly drawn annotations that they rest on.
        basis: What is estimated and what it rests on, in a sentence or two.
        groups: Counts by group: by name of a column or id of a label step.
    """

    against: str | None = None
    texts: int = 0
    basis: str = ""
    groups: Mapping[str, Grouping] = Field(default_factory=dict)

    @property
    def reason(self) -> str | None:
        """Why nothing is estimated; ``None`` where something is."""
        estimates = [estimate for _, estimate in self.named()]
        if any(estimate.estimate is not None for estimate in estimates):
            return None
        return next((one.reason for one in estimates if one.reason), None)
