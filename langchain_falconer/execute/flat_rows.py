"""Result rows as flat rows for spreadsheets and data frames: one a text, or one a span."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from langchain_falconer.plan import LabelStep, Plan
from langchain_falconer.records import ResultRow
from langchain_falconer.settings import RowUnit

Cell = bool | int | float | str | None
"""A value of a flat row; None where there is none."""
SEPARATOR = "; "
"""Between the values of a step that has several in one text."""


class FlatTable:
    """The columns of flat rows, and the rows.

    One row a text: ``id``, ``text``, ``match``; of each step its value, ``STEP.score`` (the lowest of several) and
    ``STEP.decided_by``; the columns of the input; ``uncertain`` and ``error`` where a row has them. One row a span:
    ``id``, ``step``, ``span``, ``start``, ``end``, ``score``, ``decided_by``; the labels of the span and of its text;
    ``match``, ``text``, and the columns of the input. Where a name is taken, that of a step is ``steps.NAME``, and that
    of a column of the input ``metadata.NAME``.

    Args:
        plan: The plan of the rows.
        rows: The rows, read once, for their columns.
        unit: What is a row.

    Attributes:
        columns: Names of the columns.
    """

    def __init__(self, plan: Plan, rows: Iterable[ResultRow], unit: RowUnit = "text") -> None:
        self._unit = unit
        metadata: dict[str, None] = {}
        marks: set[str] = set()
        for row in rows:
            metadata.update(dict.fromkeys(row.get("metadata", ())))
            marks.update(row)
        fixed: tuple[str, ...] = ("id", "text", "match", "uncertain", "error")
        if unit == "span":
            fixed = ("id", "step", "span", "start", "end", "score", "decided_by", "match", "text")
        used = set(fixed)
        steps = [step for step in plan.steps if unit == "text" or isinstance(step, LabelStep)]
        self._steps = {step.id: _free(step.id, "steps", used) for step in steps}
        self._single = {step.id for step in plan.top_level if isinstance(step, LabelStep)}
        answers: list[str] = []
        for step in steps:
            name = self._steps[step.id]
            answers += [name, f"{name}.score"]
            answers += [f"{name}.decided_by"] if unit == "text" and step.of is None else []
        used.update(answers)
        self._metadata = {name: _free(name, "metadata", used) for name in metadata}
        if unit == "span":
            self.columns = [*fixed[:7], *answers, *fixed[7:], *self._metadata.values()]
        else:
            shown = [mark for mark in fixed[3:] if mark in marks]
            self.columns = [*fixed[:3], *answers, *self._metadata.values(), *shown]

    def flatten(self, row: ResultRow) -> Iterator[list[Cell]]:
        """Yield the flat rows of a result row."""
        shared: dict[str, Cell] = {
            "id": row["id"],
            "text": row.get("text"),
            "match": row.get("match"),
            "uncertain": row.get("uncertain"),  # type: ignore[dict-item]
            "error": row.get("error"),
        }
        shared |= {column: _cell(row.get("metadata", {}).get(name)) for name, column in self._metadata.items()}
        if self._unit == "text":
            yield self._ordered(shared | self._text_answers(row))
            return
        shared |= self._labels(row)
        for step, span in _spans(row):
            own: dict[str, Cell] = {"step": step, "span": span["text"], "decided_by": row["decided_by"].get(step)}
            own |= {name: span[name] for name in ("start", "end", "score")}
            yield self._ordered(shared | own | self._labels(span))

    def _ordered(self, cells: Mapping[str, Cell]) -> list[Cell]:
        return [cells.get(column) for column in self.columns]

    def _labels(self, answers: Mapping[str, Any]) -> dict[str, Cell]:
        cells: dict[str, Cell] = {}
        for step, label in answers.get("labels", {}).items():
            cells[self._steps[step]] = _cell(label["value"])
            cells[f"{self._steps[step]}.score"] = label["score"]
        return cells

    def _text_answers(self, row: ResultRow) -> dict[str, Cell]:
        found: dict[str, list[tuple[Any, float]]] = defaultdict(list)
        _collect(row, found)
        cells: dict[str, Cell] = {}
        for step, answers in found.items():
            column, values = self._steps[step], [value for value, _ in answers]
            cells[column] = _cell(values[0]) if step in self._single else _cell(values)
            cells[f"{column}.score"] = min((score for _, score in answers), default=None)
        decided = {f"{self._steps[step]}.decided_by": by for step, by in row.get("decided_by", {}).items()}
        return {**cells, **decided}


def _free(name: str, prefix: str, used: set[str]) -> str:
    """Return a name that is not used yet, and add it to those that are."""
    while name in used:
        name = f"{prefix}.{name}"
    used.add(name)
    return name


def _cell(value: Any) -> Cell:
    if isinstance(value, list) and all(isinstance(one, str | bool) for one in value):
        return SEPARATOR.join(one if isinstance(one, str) else str(one).lower() for one in value)
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else value


def _collect(answers: Mapping[str, Any], found: dict[str, list[tuple[Any, float]]]) -> None:
    """Add the answers of a row, and those inside its spans, by step."""
    for step, label in answers.get("labels", {}).items():
        found[step].append((label["value"], label["score"]))
    for step, spans in answers.get("spans", {}).items():
        found[step] += [(span["text"], span["score"]) for span in spans]
        for span in spans:
            _collect(span, found)


def _spans(answers: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield every span of a row, those inside others too, with its step."""
    for step, spans in answers.get("spans", {}).items():
        for span in spans:
            yield step, span
            yield from _spans(span)
