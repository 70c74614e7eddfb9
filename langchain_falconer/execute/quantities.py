"""Quantities of result rows, such as "has the label spam" or "number of prices", and their totals by group of rows."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Container, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

from langchain_falconer.corpus import split_passages
from langchain_falconer.evaluate import RowTotals
from langchain_falconer.execute.statistics import label_names
from langchain_falconer.plan import LabelStep, Plan, SpanStep
from langchain_falconer.records import ResultRow

MAX_GROUPS = 24
"""Most groups of a column; one with more values has none."""
_MAX_COLUMNS = 20
_MAX_VALUE_CHARS = 80
_MAX_PENDING = 50_000
_MAX_CROSSED = 12  # labels of a step that other steps are counted by
_MONTH = re.compile(r"(\d{4}-(?:0[1-9]|1[0-2]))(?:-\d{2})?(?:[T ].*)?")


class Quantity(NamedTuple):
    """What is counted of a row.

    Attributes:
        kind: ``match``; ``label`` (top-level: 0 or 1; of a step about spans: the number of spans with it); ``texts``
            (whether the step has a span), ``spans`` (their number) or ``value`` (spans with this text).
        step: The step; empty for ``match``.
        value: The label or text.
        by: A label step that the rows are grouped by; else empty.
        group: Its label.
    """

    kind: str
    step: str = ""
    value: str = ""
    by: str = ""
    group: str = ""


class Group(NamedTuple):
    """Rows with the same value of a column, or of the month of a date; both are empty for all rows."""

    column: str = ""
    value: str = ""


ALL = Group()
Values = Mapping[Quantity, int]


@dataclass(frozen=True)
class Quantities:
    """The quantities of a plan.

    Attributes:
        plan: The plan.
        top: Span texts that are counted, by step.
    """

    plan: Plan
    top: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def at_most_one(self, quantity: Quantity) -> bool:
        """Return whether the quantity is 0 or 1 in a row."""
        of = self.plan[quantity.step].of if quantity.step else None
        return of is None and quantity.kind in ("match", "label", "texts")

    def all(self) -> Iterator[Quantity]:
        """Yield every quantity of the plan, but for the texts of spans."""
        yield Quantity("match")
        for step in self.plan.ordered:
            yield from _of_step(step)
        for by in self._crossing():
            for label in labels_of(by):
                for step in self.plan.top_level:
                    if step.id != by.id and len(labels_of(step)) <= _MAX_CROSSED:
                        yield from (one._replace(by=by.id, group=label) for one in _of_step(step))

    def pattern(self, row: ResultRow) -> Hashable:
        """Return what the quantities of a row depend on; rows with the same pattern have the same ones."""
        return row.get("match"), self._pattern(row)

    def _pattern(self, answers: Mapping[str, Any]) -> Hashable:
        labels = tuple(
            (step, tuple(value) if isinstance(value := label["value"], list) else value)
            for step, label in answers.get("labels", {}).items()
        )
        spans = tuple(
            (step, len(found), *(self._pattern_of_span(step, span) for span in found))
            for step, found in answers.get("spans", {}).items()
        )
        return labels, spans

    def _pattern_of_span(self, step: str, span: Mapping[str, Any]) -> Hashable:
        text = span["text"] if span["text"] in self.top.get(step, ()) else None
        return (text, self._pattern(span)) if "labels" in span or "spans" in span else text

    def of(self, row: ResultRow) -> dict[Quantity, int]:
        """Return the quantities of a row that are not 0."""
        values: Counter[Quantity] = Counter()
        if row.get("match"):
            values[Quantity("match")] = 1
        self._add(row, values)
        plain = [(one, n) for one, n in values.items() if one.step and self.plan[one.step].of is None]
        for by in self._crossing():
            label = row.get("labels", {}).get(by.id)
            for name in label_names(label["value"]) if label else ():
                crossed = ((one, n) for one, n in plain if one.step != by.id and one.kind != "value")
                values.update({one._replace(by=by.id, group=name): n for one, n in crossed})
        return dict(values)

    def _crossing(self) -> list[LabelStep]:
        steps = [step for step in self.plan.top_level if isinstance(step, LabelStep)]
        return [step for step in steps if len(labels_of(step)) <= _MAX_CROSSED] if len(steps) <= 4 else []

    def _add(self, answers: Mapping[str, Any], values: Counter[Quantity]) -> None:
        for step, label in answers.get("labels", {}).items():
            for name in label_names(label["value"]):
                values[Quantity("label", step, name)] += 1
        for step, spans in answers.get("spans", {}).items():
            if not spans:
                continue
            if self.plan[step].of is None:
                values[Quantity("texts", step)] = 1
            values[Quantity("spans", step)] += len(spans)
            for span in spans:
                if span["text"] in self.top.get(step, ()):
                    values[Quantity("value", step, span["text"])] += 1
                self._add(span, values)


def labels_of(step: LabelStep | SpanStep) -> tuple[str, ...]:
    """Return the labels of a step as they are counted; none of a span step."""
    if isinstance(step, SpanStep):
        return ()
    return tuple(step.names) or ("true", "false")


def _of_step(step: LabelStep | SpanStep) -> Iterator[Quantity]:
    if isinstance(step, LabelStep):
        yield from (Quantity("label", step.id, name) for name in labels_of(step))
    else:
        if step.of is None:
            yield Quantity("texts", step.id)
        yield Quantity("spans", step.id)


@dataclass
class GroupTotals:
    """Totals over the rows of a group.

    Attributes:
        rows: Rows with answers.
        counted: Totals by the answers in the rows.
        answered_rows: Rows that the annotator answered.
        answered: Their totals, by the annotator.
        predicted_rows: The other rows; long ones, of several passages, are in ``long_rows``.
        predicted_units: These rows, and the passages of long ones.
        predicted: Totals over the units; of quantities of 0 or 1 over ``predicted_rows`` alone.
        positive: Number of units where a quantity is above 0.
        long_rows: Rows of several passages, where the sample is of passages.
        long: Totals of quantities of 0 or 1 over long rows.
        labelled: Rows and passages of this group with a labelled text, by text.
    """

    rows: int = 0
    counted: Counter[Quantity] = field(default_factory=Counter)
    answered_rows: int = 0
    answered: Counter[Quantity] = field(default_factory=Counter)
    predicted_rows: int = 0
    predicted_units: int = 0
    predicted: Counter[Quantity] = field(default_factory=Counter)
    positive: Counter[Quantity] = field(default_factory=Counter)
    long_rows: int = 0
    long: Counter[Quantity] = field(default_factory=Counter)
    labelled: Counter[str] = field(default_factory=Counter)

    def add(self, values: Values, n: int, *, is_answered: bool) -> None:
        """Count ``n`` rows with the same quantities, by the annotator or by the proxy."""
        self.rows += n
        for quantity, value in values.items():
            self.counted[quantity] += n * value
        if is_answered:
            self.answered_rows += n
            for quantity, value in values.items():
                self.answered[quantity] += n * value
            return
        self.predicted_rows += n
        self.predicted_units += n
        for quantity, value in values.items():
            self.predicted[quantity] += n * value
            self.positive[quantity] += n

    def answered_totals(self, quantity: Quantity) -> RowTotals:
        """Return the totals of the rows that the annotator answered."""
        return RowTotals(self.answered_rows, self.answered[quantity])

    def predicted_totals(self, quantity: Quantity, *, at_most_one: bool) -> RowTotals:
        """Return the totals of the rows that the proxy decided."""
        units = self.predicted_rows if at_most_one else self.predicted_units
        return RowTotals(units, self.predicted[quantity], self.positive[quantity])


class DrawnUnit(NamedTuple):
    """A row, or a passage of one, that the proxy decided, drawn uniformly over these."""

    text: str
    values: Values
    groups: tuple[Group, ...]
    is_row: bool


class RowTally:
    """Totals of the quantities over rows, in all and by group, in memory that does not grow with the corpus.

    Groups are the values of the columns of ``metadata`` that have at most 24, dates by month; the others have none.

    Args:
        quantities: The quantities.
        facts: The annotator's quantities of texts that it answered; rows that it decided itself need none.
        labelled: Texts of the sample; how often each occurs is counted.
        answered_by: Who decides rows that are facts: the values of ``decided_by``.
        passage_chars: Length of the passages that the sample is of; ``None`` where it is of whole rows.
        n_drawn: Rows (or passages) to draw of those that the proxy decided.
        seed: Of the draw.
    """

    def __init__(
        self,
        quantities: Quantities,
        facts: Mapping[str, Values],
        labelled: Container[str],
        *,
        answered_by: Container[str],
        passage_chars: int | None,
        n_drawn: int,
        seed: int,
    ) -> None:
        self.groups: dict[Group, GroupTotals] = {ALL: GroupTotals()}
        self.drawn: list[DrawnUnit] = []
        self.values: dict[str, Values] = {}
        """Quantities of the labelled texts as their rows have them."""
        self._quantities = quantities
        self._facts = facts
        self._labelled = labelled
        self._answered_by = answered_by
        self._passage_chars = passage_chars
        self._n_drawn = n_drawn
        self._n_units = 0
        self._random = random.Random(f"compare {seed}")
        self._columns: dict[str, dict[str, Group] | None] = {}
        self._patterns: dict[Hashable, Values] = {}
        self._pending: Counter[tuple[Group, bool, Hashable]] = Counter()

    def add_all(self, rows: Iterable[ResultRow]) -> RowTally:
        """Count rows; failed ones do not count."""
        for row in rows:
            if "error" not in row:
                self._count(row)
            if len(self._pending) > _MAX_PENDING:
                self._flush()
        self._flush()
        return self

    def columns(self) -> dict[str, list[Group]]:
        """Return the groups of each column that has at least two, the largest first."""
        found = {name: list(groups.values()) for name, groups in self._columns.items() if groups}
        return {
            name: sorted(groups, key=lambda one: (-self.groups[one].rows, one.value))
            for name, groups in found.items()
            if len(groups) > 1
        }

    def _count(self, row: ResultRow) -> None:
        text, groups = row.get("text", ""), (ALL, *self._groups_of(row.get("metadata") or {}))
        pattern = self._quantities.pattern(row)
        if (values := self._patterns.get(pattern)) is None:
            values = self._patterns[pattern] = self._quantities.of(row)
        facts = self._facts.get(text)
        is_long = self._passage_chars is not None and len(text) > self._passage_chars
        if facts is None and not is_long and text not in self._labelled:
            is_answered = self._is_answered(row)
            for group in groups:
                self._pending[group, is_answered, pattern] += 1
            if not is_answered:
                self._draw(text, values, groups)
            return
        self._count_singly(row, text, facts, values, groups)

    def _is_answered(self, row: ResultRow) -> bool:
        decided = (row.get("decided_by") or {}).values()
        return bool(decided) and all(by in self._answered_by for by in decided)

    def _flush(self) -> None:
        """Add the rows that were counted by pattern to the totals; many rows have the same answers."""
        for (group, is_answered, pattern), n in self._pending.items():
            if (totals := self.groups.get(group)) is not None:  # its column may have had too many values
                totals.add(self._patterns[pattern], n, is_answered=is_answered)
        self._pending.clear()
        self._patterns.clear()

    def _count_singly(
        self, row: ResultRow, text: str, facts: Values | None, values: Values, groups: tuple[Group, ...]
    ) -> None:
        if facts is None and self._is_answered(row):
            facts = values
        units = [(0, len(text))]
        if self._passage_chars is not None:
            units = split_passages(text, self._passage_chars)
        found = [piece for piece in (text[a:b] for a, b in units) if piece in self._labelled]
        if text in self._labelled:
            self.values[text] = values
        for group in groups:
            totals = self.groups[group]
            totals.rows += 1
            totals.counted.update(values)
            totals.labelled.update(found)
            if facts is not None:
                totals.answered_rows += 1
                totals.answered.update(facts)
        if facts is None:
            self._predict(row, text, units, values, groups)

    def _predict(
        self, row: ResultRow, text: str, units: list[tuple[int, int]], values: Values, groups: tuple[Group, ...]
    ) -> None:
        is_row = len(units) == 1
        parts = [(text[a:b], values if is_row else self._inside(row, a, b)) for a, b in units]
        for group in groups:
            totals = self.groups[group]
            totals.predicted_units += len(parts)
            totals.predicted_rows += is_row
            totals.long_rows += not is_row
            if not is_row:
                totals.long.update({one: n for one, n in values.items() if self._quantities.at_most_one(one)})
            for _, part in parts:
                totals.predicted.update(part)
                totals.positive.update(part.keys())
        for piece, part in parts:
            self._draw(piece, part, groups, is_row=is_row)

    def _inside(self, row: ResultRow, start: int, end: int) -> Values:
        """Return the numbers of spans that begin in a passage of a row."""
        spans = {step: [s for s in found if start <= s["start"] < end] for step, found in row.get("spans", {}).items()}
        inside = self._quantities.of({"id": "", "labels": row.get("labels", {}), "spans": spans})
        return {one: n for one, n in inside.items() if not self._quantities.at_most_one(one)}

    def _draw(self, text: str, values: Values, groups: tuple[Group, ...], *, is_row: bool = True) -> None:
        """Keep a uniform sample of the units (reservoir sampling)."""
        self._n_units += 1
        if len(self.drawn) < self._n_drawn:
            self.drawn.append(DrawnUnit(text, values, groups, is_row))
        elif self._n_drawn and (place := int(self._random.random() * self._n_units)) < self._n_drawn:
            self.drawn[place] = DrawnUnit(text, values, groups, is_row)

    def _groups_of(self, metadata: Mapping[str, Any]) -> Iterator[Group]:
        for column, data in metadata.items():
            if column not in self._columns:
                self._columns[column] = {} if len(self._columns) < _MAX_COLUMNS else None
            known = self._columns[column]
            if known is None or data is None or data == "":
                continue
            value = _month_or_text(data) if isinstance(data, str) else _group_value(data)
            group = known.get(value) if value is not None else None
            if value is None or (group is None and len(known) == MAX_GROUPS):
                self._columns[column] = None
                for old in known.values():
                    del self.groups[old]
                continue
            if group is None:
                group = known[value] = Group(column, value)
                self.groups[group] = GroupTotals()
            yield group


@lru_cache(maxsize=4096)
def _month_or_text(data: str) -> str | None:
    """Return the month of a date, or the text itself; None for a long one."""
    month = _MONTH.fullmatch(data)
    return month[1] if month else data if len(data) <= _MAX_VALUE_CHARS else None


def _group_value(data: object) -> str | None:
    """Return the group of a value that is no string; None for what makes no groups."""
    if isinstance(data, bool):
        return str(data).lower()
    if isinstance(data, int) or (isinstance(data, float) and data.is_integer()):
        return f"{data:.0f}"
    return None
