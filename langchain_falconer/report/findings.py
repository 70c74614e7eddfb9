"""Findings of a run: the most frequent values of each step, their sources, and rows to quote."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from langchain_falconer.execute import RowStatistics, label_names, most_frequent, read_rows
from langchain_falconer.plan import Plan
from langchain_falconer.records import FrozenModel

_TOP = 10
_SOURCES = 3
_EXAMPLES = 5
_EXCERPT = 160
_MAX_SOURCES = 10_000  # per value; beyond that the rarest are dropped


class ValueCount(FrozenModel):
    """A value of a step.

    Attributes:
        value: The label or span text, at most 120 characters.
        count: Number of occurrences.
        sources: The sources where it is most frequent, with their counts.
    """

    value: str
    count: int
    sources: dict[str, int] = {}


class Excerpt(FrozenModel):
    """A row quoted as evidence.

    Attributes:
        id: Id of the row.
        quote: The words around its first span, or its beginning.
        source: Where the text comes from; empty where that is unknown.
        title: Title of the document.
    """

    id: str
    quote: str
    source: str = ""
    title: str | None = None


class Findings(FrozenModel):
    """The findings of a run.

    Attributes:
        top: The most frequent values by step.
        examples: Matching rows, of different sources where there are several.
    """

    top: dict[str, tuple[ValueCount, ...]]
    examples: tuple[Excerpt, ...]


def find(plan: Plan, rows: Path, statistics: RowStatistics) -> Findings:
    """Collect the findings of a file of rows; memory does not grow with the corpus.

    Args:
        plan: The plan of the rows.
        rows: File of result rows.
        statistics: Counts over these rows.
    """
    top = {
        step.id: most_frequent((statistics.labels | statistics.span_texts).get(step.id, Counter()), _TOP)
        for step in plan.top_level
    }
    shown = {(step, value) for step, values in top.items() for value, _ in values}
    sources: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    examples: list[Excerpt] = []
    cited: set[str] = set()
    for row in read_rows(rows):
        if "error" in row:
            continue
        if source := source_of(row):
            for key in shown.intersection(_values(row)):
                _count(sources[key], source)
        if row.get("match") and len(examples) < _EXAMPLES and (source not in cited or not source):
            cited.add(source)
            examples.append(excerpt(row))
    return Findings(
        top={step: tuple(_value(step, value, n, sources) for value, n in values) for step, values in top.items()},
        examples=tuple(examples),
    )


def source_of(row: Mapping[str, Any]) -> str:
    """Return where the text of a row comes from; empty where that is unknown."""
    metadata = row.get("metadata") or {}
    return str(metadata.get("source") or metadata.get("url") or "")


def excerpt(row: Mapping[str, Any]) -> Excerpt:
    """Return a row as evidence."""
    text: str = row["text"]
    spans = [span for step_spans in (row.get("spans") or {}).values() for span in step_spans]
    middle = (spans[0]["start"] + spans[0]["end"]) // 2 if spans else 0
    begin = max(0, min(middle - _EXCERPT // 2, len(text) - _EXCERPT))
    quote = " ".join(text[begin : begin + _EXCERPT].split())
    shown = f"{'…' if begin else ''}{quote}{'…' if begin + _EXCERPT < len(text) else ''}"
    title = (row.get("metadata") or {}).get("title")
    return Excerpt(id=row["id"], quote=shown, source=source_of(row)[:120], title=str(title)[:80] if title else None)


def _values(row: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for step, label in (row.get("labels") or {}).items():
        for name in label_names(label["value"]):
            yield step, name
    for step, spans in (row.get("spans") or {}).items():
        for span in spans:
            yield step, span["text"]


def _count(counts: Counter[str], source: str) -> None:
    counts[source] += 1
    if len(counts) > _MAX_SOURCES:
        frequent = counts.most_common(_MAX_SOURCES // 2)
        counts.clear()
        counts.update(dict(frequent))


def _value(step: str, value: str, n: int, sources: Mapping[tuple[str, str], Counter[str]]) -> ValueCount:
    frequent = most_frequent(sources.get((step, value), Counter()), _SOURCES)
    return ValueCount(value=value[:120], count=n, sources={source[:120]: times for source, times in frequent})
